// Jᵀ W J v on splats: each tile pushes the tangent to its pixels and pulls it back, and no image is written.
#include "passes.cuh"

namespace diff3r {

template <class T>
__global__ void __launch_bounds__(BLOCK) product_kernel(DeviceScene<T> scene, const T* tangents, const T* weights, T* moments) {
    __shared__ SharedSplats<T> splats;
    __shared__ SharedTangents<T> shared;
    const Pixel<T> pixel(scene);
    TangentPass<T> forward(scene, shared, tangents, pixel);
    walk_tile(scene, pixel, splats, forward);
    forward.finish();
    const T weight = pixel.inside ? weights[pixel.index] : T(0);
    for (int c = 0; c < 3; ++c) forward.color[c] *= weight;
    CotangentPass<T> backward(scene, moments, pixel, forward.color, forward.primal);
    walk_tile(scene, pixel, splats, backward);
}

template <class T> int32_t rasterize_product(const Diff3rDeviceScene* s, const void* tangents, const void* weights, void* moments) {
    const DeviceScene<T> scene(*s);
    return launch(s->queue, scene.images() * scene.tiles(), BLOCK, product_kernel<T>, scene, static_cast<const T*>(tangents),
                  static_cast<const T*>(weights), static_cast<T*>(moments));
}

}  // namespace diff3r

DIFF3R_EXPORT(rasterize_product, (const Diff3rDeviceScene* s, const void* tangents, const void* weights, void* moments),
              (s, tangents, weights, moments))
