// J v on splats.
#include "passes.cuh"

namespace diff3r {

template <class T> __device__ __forceinline__ void rasterize_jvp(const DeviceScene<T>& scene, const T* tangents, T* rendered) {
    __shared__ SharedSplats<T> splats;
    __shared__ SharedTangents<T> shared;
    const Pixel<T> pixel(scene);
    TangentPass<T> push(scene, shared, tangents, pixel);
    walk_tile(scene, pixel, splats, push);
    push.finish();
    if (pixel.inside)
        for (int c = 0; c < 3; ++c) rendered[3 * pixel.index + c] = push.color[c];
}

}  // namespace diff3r

DIFF3R_KERNEL(rasterize_jvp, BLOCK, (Diff3rDeviceScene scene, const T* tangents, T* rendered), (DeviceScene<T>(scene), tangents, rendered))
