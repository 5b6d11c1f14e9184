// Jᵀ W J v on splats: each tile pushes the tangent to its pixels and pulls it back, and no image is written.
#include "passes.cuh"

namespace diff3r {

template <class T>
__device__ __forceinline__ void rasterize_product(const DeviceScene<T>& scene, const T* tangents, const T* weights, T* moments) {
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

}  // namespace diff3r

DIFF3R_KERNEL(rasterize_product, BLOCK, (Diff3rDeviceScene scene, const T* tangents, const T* weights, T* moments),
              (DeviceScene<T>(scene), tangents, weights, moments))
