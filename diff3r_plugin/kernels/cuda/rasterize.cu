// The rendering and Jᵀ u on splats, for where there is no gsplat.
#include "passes.cuh"

namespace diff3r {

template <class T> __device__ __forceinline__ void rasterize(const DeviceScene<T>& scene, T* rendered) {
    __shared__ SharedSplats<T> splats;
    const Pixel<T> pixel(scene);
    const PrimalPass<T> rendering = rendered_at(scene, pixel, splats);
    if (pixel.inside)
        for (int c = 0; c < 3; ++c) rendered[3 * pixel.index + c] = rendering.color[c];
}

template <class T> __device__ __forceinline__ void rasterize_vjp(const DeviceScene<T>& scene, const T* image_cotangent, T* moments) {
    __shared__ SharedSplats<T> splats;
    const Pixel<T> pixel(scene);
    const PrimalPass<T> rendering = rendered_at(scene, pixel, splats);
    T cotangent[3];
    for (int c = 0; c < 3; ++c) cotangent[c] = pixel.inside ? image_cotangent[3 * pixel.index + c] : T(0);
    CotangentPass<T> backward(scene, moments, pixel, cotangent, rendering.color);
    walk_tile(scene, pixel, splats, backward);
}

}  // namespace diff3r

DIFF3R_KERNEL(rasterize, BLOCK, (Diff3rDeviceScene scene, T* rendered), (DeviceScene<T>(scene), rendered))
DIFF3R_KERNEL(rasterize_vjp, BLOCK, (Diff3rDeviceScene scene, const T* image_cotangent, T* moments),
              (DeviceScene<T>(scene), image_cotangent, moments))
