// Cotangents of splats to gradients by θ.
#include "splat_vjp.cuh"

namespace diff3r {

template <class T, int BASES>
__device__ __forceinline__ void chart_splat_vjp(const DeviceScene<T>& scene, const T* splats, int64_t arriving, const ChartCotangent<T>& out,
                                                double* camera_sums) {
    pull_cotangent<T, BASES>(scene, splats, arriving, out, camera_sums);
}

}  // namespace diff3r

DIFF3R_KERNEL_OF_BASES(chart_splat_vjp, GAUSSIAN_THREADS,
                       (Diff3rDeviceScene scene, const T* splats, int64_t arriving, Diff3rChart chart, const T* diagonal, const T* vector,
                        const T* center, T* out, double* camera_sums),
                       (DeviceScene<T>(scene), splats, arriving,
                        ChartCotangent<T>{Chart<T>(chart), out, diagonal, vector, center}, camera_sums))
