// Tangents of Gaussians to those of splats.
#include "splat_jvp.cuh"

namespace diff3r {

template <class T, int BASES> __device__ __forceinline__ void splat_jvp(const DeviceScene<T>& scene, const VectorView<T>& tangent, T* splats, T* moments) {
    push_tangent<T, BASES>(scene, GivenTangent<T>{tangent}, splats, moments);
}

}  // namespace diff3r

DIFF3R_KERNEL_OF_BASES(splat_jvp, GAUSSIAN_THREADS, (Diff3rDeviceScene scene, Diff3rVector tangent, T* splats, T* moments),
                       (DeviceScene<T>(scene), VectorView<T>(tangent), splats, moments))
