// The rendering and Jᵀ u on splats, for where there is no gsplat.
#include "passes.cuh"

namespace diff3r {

template <class T> __global__ void __launch_bounds__(BLOCK) rasterize_kernel(DeviceScene<T> scene, T* rendered) {
    __shared__ SharedSplats<T> splats;
    const Pixel<T> pixel(scene);
    const PrimalPass<T> rendering = rendered_at(scene, pixel, splats);
    if (pixel.inside)
        for (int c = 0; c < 3; ++c) rendered[3 * pixel.index + c] = rendering.color[c];
}

template <class T> __global__ void __launch_bounds__(BLOCK) vjp_kernel(DeviceScene<T> scene, const T* image_cotangent, T* moments) {
    __shared__ SharedSplats<T> splats;
    const Pixel<T> pixel(scene);
    const PrimalPass<T> rendering = rendered_at(scene, pixel, splats);
    T cotangent[3];
    for (int c = 0; c < 3; ++c) cotangent[c] = pixel.inside ? image_cotangent[3 * pixel.index + c] : T(0);
    CotangentPass<T> backward(scene, moments, pixel, cotangent, rendering.color);
    walk_tile(scene, pixel, splats, backward);
}

template <class T> int32_t rasterize(const Diff3rDeviceScene* s, void* rendered) {
    const DeviceScene<T> scene(*s);
    return launch(s->queue, scene.images() * scene.tiles(), BLOCK, rasterize_kernel<T>, scene, static_cast<T*>(rendered));
}

template <class T> int32_t rasterize_vjp(const Diff3rDeviceScene* s, const void* image_cotangent, void* moments) {
    const DeviceScene<T> scene(*s);
    return launch(s->queue, scene.images() * scene.tiles(), BLOCK, vjp_kernel<T>, scene, static_cast<const T*>(image_cotangent),
                  static_cast<T*>(moments));
}

}  // namespace diff3r

DIFF3R_EXPORT(rasterize, (const Diff3rDeviceScene* s, void* rendered), (s, rendered))
DIFF3R_EXPORT(rasterize_vjp, (const Diff3rDeviceScene* s, const void* image_cotangent, void* moments), (s, image_cotangent, moments))
