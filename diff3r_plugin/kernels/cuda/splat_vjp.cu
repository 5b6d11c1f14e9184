// Cotangents of splats to those of Gaussians.
#include "splat_vjp.cuh"

namespace diff3r {

template <class T, int BASES>
__device__ __forceinline__ void splat_vjp(const DeviceScene<T>& scene, const T* splats, int64_t arriving, const VectorView<T>& out,
                                          double* camera_sums) {
    pull_cotangent<T, BASES>(scene, splats, arriving, GivenCotangent<T>{out}, camera_sums);
}

}  // namespace diff3r

DIFF3R_KERNEL_OF_BASES(splat_vjp, GAUSSIAN_THREADS,
                       (Diff3rDeviceScene scene, const T* splats, int64_t arriving, Diff3rVector out, double* camera_sums),
                       (DeviceScene<T>(scene), splats, arriving, VectorView<T>(out), camera_sums))
