// Gaussians to splats: projection and color in one kernel, one thread for each Gaussian in each image.
#include "device.h"

namespace diff3r {

constexpr int PROJECT_THREADS = 128;
constexpr double LARGEST_RADIUS = 1 << 24;  // px; an integer that every number type holds

template <class T, int BASES> __device__ __forceinline__ void project(const DeviceScene<T>& scene) {
    const int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at >= scene.images() * scene.gaussians) return;
    const int64_t image = at / scene.gaussians, n = image / scene.views * scene.gaussians + at % scene.gaussians;
    T mean[3], covariance[6], offset[3], direction[3], basis[MAX_BASES], color[3];
    for (int j = 0; j < 3; ++j) mean[j] = scene.means[3 * n + j];
    load_symmetric(scene.covariances, n, covariance);
    Camera<T> camera;
    load_camera(scene, image, camera);
    Projection<T> p;
    project(mean, covariance, camera, p);
    offset_from_camera(mean, camera, offset);
    normalize(offset, direction);
    harmonic_basis(BASES, direction[0], direction[1], direction[2], basis);
    const T opacity = p.antialiased ? scene.opacities[n] * p.dimming : scene.opacities[n];
    T sum = opacity;
    for (int c = 0; c < 3; ++c) {
        color[c] = T(COLOR_OFFSET);
        DIFF3R_UNROLL
        for (int k = 0; k < BASES; ++k) color[c] += scene.harmonics[(3 * n + c) * BASES + k] * basis[k];
        sum += color[c];
    }
    bool visible = p.visible && is_finite(sum) && opacity >= T(ALPHA_SKIP);
    T reach_x(0), reach_y(0);
    if (visible) {
        // The ellipse where alpha reaches the skip threshold, a little enlarged against rounding.
        const T twice = T(2) * logarithm(opacity / T(ALPHA_SKIP)) * T(1.0002);
        reach_x = square_root(twice * p.cov_xx) + T(0.001);
        reach_y = square_root(twice * p.cov_yy) + T(0.001);
        visible = p.x + reach_x > T(0) && p.x - reach_x < T(scene.width) && p.y + reach_y > T(0) && p.y - reach_y < T(scene.height);
    }
    int flags = visible ? VISIBLE : 0;
    for (int c = 0; c < 3; ++c) {
        const bool lit = visible && color[c] > T(0);
        flags |= int(lit) << c;
        scene.colors[3 * at + c] = lit ? color[c] : T(0);
    }
    scene.flags[at] = flags;
    const T numbers[5] = {p.x, p.y, p.a, p.b, p.c};
    for (int k = 0; k < 2; ++k) scene.means2d[2 * at + k] = visible ? numbers[k] : T(0);
    for (int k = 0; k < 3; ++k) scene.conics[3 * at + k] = visible ? numbers[2 + k] : T(0);
    scene.depths[at] = visible ? p.point[2] : T(0);
    scene.splat_opacities[at] = visible ? opacity : T(0);
    const T limit(LARGEST_RADIUS);
    // Whole pixels, rounded up.
    scene.reaches[2 * at] = reach_x, scene.reaches[2 * at + 1] = reach_y;
    scene.radii[2 * at] = visible ? int32_t(reach_x < limit ? reach_x : limit) + 1 : 0;
    scene.radii[2 * at + 1] = visible ? int32_t(reach_y < limit ? reach_y : limit) + 1 : 0;
}

}  // namespace diff3r

DIFF3R_KERNEL_OF_BASES(project, PROJECT_THREADS, (Diff3rDeviceScene scene), (DeviceScene<T>(scene)))
