// Sums over pixels to the Gram matrix of each Gaussian's own thirteen numbers, one thread a Gaussian.
#include "device.h"

namespace diff3r {

constexpr int SPLAT_GRAM_THREADS = WARP;  // their matrices stay below 48 kB

// A matrix and the numbers of the higher SH coefficients, in shared memory; odd, so that the threads of a warp meet in no bank.
template <int BASES> constexpr int GRAM_STRIDE = (CORE * CORE + 3 * (BASES - 1)) | 1;

template <class T, int BASES>
__device__ __forceinline__ void splat_gram(const DeviceScene<T>& scene, const T* sums, T* core_out, T* rest_out) {
    constexpr int STRIDE = GRAM_STRIDE<BASES>, RESTS = 3 * (BASES - 1);
    __shared__ T matrices[STRIDE * SPLAT_GRAM_THREADS];
    const int64_t first = int64_t(blockIdx.x) * SPLAT_GRAM_THREADS, g = first + threadIdx.x, all = scene.batch * scene.gaussians;
    if (g < all) {
        T* core = matrices + STRIDE * int(threadIdx.x);
        for (int k = 0; k < CORE * CORE + RESTS; ++k) core[k] = T(0);
        const int64_t scene_index = g / scene.gaussians;
        for (int64_t view = 0; view < scene.views; ++view) {
            const int64_t image = scene_index * scene.views + view;
            const int64_t at = image * scene.gaussians + g % scene.gaussians;
            const int flags = scene.flags[at];
            if (!(flags & VISIBLE)) continue;
            SeenGaussian<T> one;
            const Seen<T> seen = one.template load<BASES>(scene, g, image, flags);
            gaussian_gram(seen, one.camera, one.projection, sums + GRAM_NUMBERS * at, core, core + CORE * CORE);
        }
    }
    __syncthreads();
    const int count = int(all - first < SPLAT_GRAM_THREADS ? all - first : SPLAT_GRAM_THREADS);
    for (int k = int(threadIdx.x); k < count * CORE * CORE; k += SPLAT_GRAM_THREADS) {
        const int i = k % (CORE * CORE) / CORE, j = k % CORE;  // the lower triangle is filled
        core_out[CORE * CORE * first + k] = matrices[STRIDE * (k / (CORE * CORE)) + (i >= j ? i * CORE + j : j * CORE + i)];
    }
    if constexpr (RESTS > 0)
        for (int k = int(threadIdx.x); k < count * RESTS; k += SPLAT_GRAM_THREADS)
            rest_out[RESTS * first + k] = matrices[STRIDE * (k / RESTS) + CORE * CORE + k % RESTS];
}

}  // namespace diff3r

DIFF3R_KERNEL_OF_BASES(splat_gram, SPLAT_GRAM_THREADS, (Diff3rDeviceScene scene, const T* sums, T* core, T* rest),
                       (DeviceScene<T>(scene), sums, core, rest))
