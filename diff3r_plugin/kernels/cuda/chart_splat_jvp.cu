// Tangents of θ to those of splats.
#include "splat_jvp.cuh"

namespace diff3r {

template <class T, int BASES>
__device__ __forceinline__ void chart_splat_jvp(const DeviceScene<T>& scene, const ChartTangent<T>& tangent, T* splats, T* moments) {
    push_tangent<T, BASES>(scene, tangent, splats, moments);
}

}  // namespace diff3r

DIFF3R_KERNEL_OF_BASES(chart_splat_jvp, GAUSSIAN_THREADS,
                       (Diff3rDeviceScene scene, Diff3rChart chart, const T* tangent, const T* world_to_camera, T* splats, T* moments),
                       (DeviceScene<T>(scene), ChartTangent<T>{Chart<T>(chart), tangent, world_to_camera}, splats, moments))
