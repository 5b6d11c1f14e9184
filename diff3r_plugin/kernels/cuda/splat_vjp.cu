// Cotangents of splats back to Gaussians and cameras, one thread a Gaussian; views are added up in order, so nothing
// but the cameras' sums is shared between threads.
#include "warp_sums.cuh"

namespace diff3r {

constexpr int SPLAT_VJP_THREADS = 128;

template <class T> __global__ void splat_vjp_kernel(DeviceScene<T> scene, const T* splats, VectorView<T> out, double* camera_sums) {
    const int64_t n = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    // Blocks do not straddle scenes (the grid has whole blocks for each), so that a warp adds up for one camera.
    const int64_t per_scene = (scene.gaussians + SPLAT_VJP_THREADS - 1) / SPLAT_VJP_THREADS * SPLAT_VJP_THREADS;
    const int64_t scene_index = n / per_scene, within = n % per_scene;
    const bool exists = within < scene.gaussians;
    const int64_t g = scene_index * scene.gaussians + (exists ? within : 0);
    T mean[3], covariance[6], opacity(0), harmonics[3 * MAX_BASES];
    zero(mean, 3);
    zero(covariance, 6);
    zero(harmonics, 3 * scene.bases);
    for (int64_t view = 0; view < scene.views; ++view) {
        const int64_t image = scene_index * scene.views + view;
        const int64_t at = image * scene.gaussians + (exists ? within : 0);
        const int flags = exists ? scene.flags[at] : 0;
        T camera[16];
        zero(camera, 16);
        if (flags & VISIBLE) {
            SeenGaussian<T> one;
            const Seen<T> seen = one.load(scene, g, image, flags);
            T splat[SPLAT_NUMBERS];
            for (int k = 0; k < SPLAT_NUMBERS; ++k) splat[k] = splats[SPLAT_NUMBERS * at + k];
            splat[5] *= seen.opacity;
            gaussian_vjp(seen, one.camera, one.projection, splat, GaussianSums<T>{mean, covariance, &opacity, harmonics}, camera_sums ? camera : nullptr);
        }
        if (camera_sums) add_warp_sums<16>(camera, CAMERA_NUMBERS, camera_sums + CAMERA_NUMBERS * image);
    }
    if (!exists) return;
    for (int j = 0; j < 3; ++j) out.means[3 * g + j] = mean[j];
    int entry = 0;
    for (int i = 0; i < 3; ++i)
        for (int j = i; j < 3; ++j, ++entry) out.covariances[9 * g + 3 * i + j] = out.covariances[9 * g + 3 * j + i] = covariance[entry];
    out.opacities[g] = opacity;
    for (int k = 0; k < 3 * scene.bases; ++k) out.harmonics[3 * scene.bases * g + k] = harmonics[k];
}

template <class T> __global__ void splat_gram_kernel(DeviceScene<T> scene, const T* sums, T* core_out, T* rest_out) {
    const int64_t g = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (g >= scene.batch * scene.gaussians) return;
    const int64_t scene_index = g / scene.gaussians;
    T core[CORE * CORE], rest[3 * MAX_BASES];
    zero(core, CORE * CORE);
    const int rests = 3 * (scene.bases - 1);
    zero(rest, rests);
    for (int64_t view = 0; view < scene.views; ++view) {
        const int64_t image = scene_index * scene.views + view;
        const int64_t at = image * scene.gaussians + g % scene.gaussians;
        const int flags = scene.flags[at];
        if (!(flags & VISIBLE)) continue;
        SeenGaussian<T> one;
        const Seen<T> seen = one.load(scene, g, image, flags);
        gaussian_gram(seen, one.camera, one.projection, sums + GRAM_NUMBERS * at, core, rest);
    }
    for (int i = 0; i < CORE; ++i)
        for (int j = 0; j < CORE; ++j) core_out[(CORE * g + i) * CORE + j] = core[i >= j ? i * CORE + j : j * CORE + i];
    for (int k = 0; k < rests; ++k) rest_out[rests * g + k] = rest[k];
}

template <class T> int32_t splat_vjp(const Diff3rDeviceScene* s, const void* splats, const Diff3rVector* out, void* camera_sums) {
    const DeviceScene<T> scene(*s);
    return launch(s->queue, scene.batch * blocks_for(scene.gaussians, SPLAT_VJP_THREADS), SPLAT_VJP_THREADS, splat_vjp_kernel<T>, scene, static_cast<const T*>(splats),
                  VectorView<T>(*out), static_cast<double*>(camera_sums));
}

template <class T> int32_t splat_gram(const Diff3rDeviceScene* s, const void* sums, void* core, void* rest) {
    const DeviceScene<T> scene(*s);
    return launch(s->queue, blocks_for(scene.batch * scene.gaussians, SPLAT_VJP_THREADS), SPLAT_VJP_THREADS, splat_gram_kernel<T>, scene,
                  static_cast<const T*>(sums), static_cast<T*>(core), static_cast<T*>(rest));
}

}  // namespace diff3r

DIFF3R_EXPORT(splat_vjp, (const Diff3rDeviceScene* s, const void* splats, const Diff3rVector* out, void* camera_sums),
              (s, splats, out, camera_sums))
DIFF3R_EXPORT(splat_gram, (const Diff3rDeviceScene* s, const void* sums, void* core, void* rest), (s, sums, core, rest))
