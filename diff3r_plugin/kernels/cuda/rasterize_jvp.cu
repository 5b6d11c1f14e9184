// J v on splats.
#include "passes.cuh"

namespace diff3r {

template <class T> __global__ void __launch_bounds__(BLOCK) jvp_kernel(DeviceScene<T> scene, const T* tangents, T* rendered) {
    __shared__ SharedSplats<T> splats;
    __shared__ SharedTangents<T> shared;
    const Pixel<T> pixel(scene);
    TangentPass<T> push(scene, shared, tangents, pixel);
    walk_tile(scene, pixel, splats, push);
    push.finish();
    if (pixel.inside)
        for (int c = 0; c < 3; ++c) rendered[3 * pixel.index + c] = push.color[c];
}

template <class T> int32_t rasterize_jvp(const Diff3rDeviceScene* s, const void* tangents, void* rendered) {
    const DeviceScene<T> scene(*s);
    return launch(s->queue, scene.images() * scene.tiles(), BLOCK, jvp_kernel<T>, scene, static_cast<const T*>(tangents), static_cast<T*>(rendered));
}

}  // namespace diff3r

DIFF3R_EXPORT(rasterize_jvp, (const Diff3rDeviceScene* s, const void* tangents, void* rendered), (s, tangents, rendered))
