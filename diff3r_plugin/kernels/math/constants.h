// The image formation. The same names and numbers stand in render/semantics.py; a test compares them.
#pragma once

namespace diff3r {

constexpr double ALPHA_CAP = 0.99;           // largest alpha of one splat at one pixel
constexpr double ALPHA_SKIP = 1.0 / 255.0;   // smaller alphas are not rendered
// A splat that would bring a pixel below this ends it. Just above 1e-4, which two saturated splats hit exactly.
constexpr double TRANSMITTANCE_STOP = 1.00001e-4;
constexpr double FRUSTUM_MARGIN = 0.3;       // of tan(fov / 2): how far outside the image the Jacobian follows
constexpr double COLOR_OFFSET = 0.5;         // color = max(0, SH + offset)

}  // namespace diff3r
