// Per-(pixel, splat) mathematics: alpha of a splat at a pixel, one step of front-to-back blending, and its transpose.
#pragma once

#include "constants.h"
#include "scalar.h"

namespace diff3r {

constexpr int TILE = 16;  // px; rasterizers work on squares of this side

// The 2D splat as a pixel sees it: center (px), conic (px⁻²) and opacity.
template <class S> struct Footprint {
    S x, y, a, b, c, opacity;
};

template <class S> struct Coverage {
    S dx, dy;         // from the splat's center to the pixel's
    S alpha;          // capped
    MaskOf<S> visible;  // alpha is not below the skip threshold
    MaskOf<S> free;   // alpha is below the cap, so it has a derivative
};

// Half the squared Mahalanobis distance. Of a needle its terms nearly cancel, so that their order shows: on a GPU it must
// be gsplat's, whose renderings ours are subtracted from. The other one saves the CPU two multiplications.
template <class S> DIFF3R_INLINE S squared_distance(const Footprint<S>& splat, const S& dx, const S& dy) {
    using R = Real<S>;
#if defined(__CUDACC__) || defined(DIFF3R_CUDA_ON_HOST)
    return R(0.5) * (splat.a * dx * dx + splat.c * dy * dy) + splat.b * dx * dy;
#else
    return dx * (R(0.5) * splat.a * dx + splat.b * dy) + R(0.5) * splat.c * dy * dy;
#endif
}

template <class S>
DIFF3R_INLINE Coverage<S> cover(const Footprint<S>& splat, const S& pixel_x, const S& pixel_y, Real<S> cap = Real<S>(ALPHA_CAP)) {
    using R = Real<S>;
    Coverage<S> r;
    r.dx = pixel_x - splat.x;
    r.dy = pixel_y - splat.y;
    const S exponent = squared_distance(splat, r.dx, r.dy);
    const S raw = splat.opacity * exponential(-exponent);
    r.free = value(raw) < cap;
    r.alpha = select(r.free, raw, S(cap));
    r.visible = both(value(r.alpha) >= R(ALPHA_SKIP), value(exponent) >= R(0));
    return r;
}

template <class S> struct Blend {
    S weight;         // transmittance times alpha, zero where the splat does not contribute
    MaskOf<S> taken;  // the splat contributes
};

// One step from front to back. The sign of the transmittance says whether the ray goes on: a splat that would bring
// it below the stop threshold does not contribute and turns it negative, and nothing contributes from there on.
template <class S> DIFF3R_INLINE Blend<S> blend(S& transmittance, const S& alpha, const MaskOf<S>& visible, Real<S> stop = Real<S>(TRANSMITTANCE_STOP)) {
    using R = Real<S>;
    const S next = transmittance * (R(1) - alpha);
    const auto reached = both(visible, value(transmittance) > R(0));
    const auto goes_on = value(next) >= stop;
    Blend<S> r;
    r.taken = both(reached, goes_on);
    r.weight = select(r.taken, transmittance * alpha, S(R(0)));
    transmittance = select(reached, select(goes_on, next, -transmittance), transmittance);
    return r;
}

// Derivative of the pixel with respect to ln(alpha) of a splat that it takes: what the splat adds minus what it hides.
// light: the splat's color; behind: all light from behind the splat (background included) that reaches the camera.
template <class S>
DIFF3R_INLINE S log_alpha_derivative(const S& weight, const S& alpha, const S& light, const S& behind) {
    return weight * light - behind * (alpha / (Real<S>(1) - alpha));
}

// Sums over pixels of s·(1, dx, dy, dx², dx dy, dy²) with s the cotangent of ln(alpha) become cotangents of the
// footprint, because d ln(alpha) = (a dx + b dy) dx₀ + (b dx + c dy) dy₀ - ½ dx² da - dx dy db - ½ dy² dc + do / o.
// The opacity is the caller's to divide by: out[5] is o times the cotangent of o.
template <class S> DIFF3R_INLINE void footprint_cotangent(const S& a, const S& b, const S& c, const S* moments, S* out) {
    using R = Real<S>;
    out[0] = a * moments[1] + b * moments[2];
    out[1] = b * moments[1] + c * moments[2];
    out[2] = R(-0.5) * moments[3];
    out[3] = -moments[4];
    out[4] = R(-0.5) * moments[5];
    out[5] = moments[0];
}

// The transpose: how ln(alpha) moves when a footprint moves by (x, y, a, b, c, opacity), as the coefficients of
// 1, dx, dy, dx², dx dy, dy². Nothing of it is needed at a pixel where the splat does not show.
template <class S> DIFF3R_INLINE void footprint_tangent(const S& a, const S& b, const S& c, const S& opacity, const S* moved, S* out) {
    using R = Real<S>;
    const auto there = value(opacity) > R(0);
    out[0] = select(there, moved[5] / select(there, opacity, S(R(1))), S(R(0)));
    out[1] = a * moved[0] + b * moved[1];
    out[2] = b * moved[0] + c * moved[1];
    out[3] = R(-0.5) * moved[2];
    out[4] = -moved[3];
    out[5] = R(-0.5) * moved[4];
}
template <class S, class T> DIFF3R_INLINE S log_alpha_tangent(const T* k, const S& dx, const S& dy) {
    return k[0] + dx * (k[1] + dx * k[3] + dy * k[4]) + dy * (k[2] + dy * k[5]);
}

}  // namespace diff3r
