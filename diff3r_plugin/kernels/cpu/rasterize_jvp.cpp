// J v on splats: the forward pass on dual numbers.
#include "parallel.h"
#include "tile_passes.h"

namespace diff3r {

template <class T> void rasterize_jvp(const Linearization<T>& lin, const SplatTangent<T>* tangents, T* rendered, int threads) {
    using D = Dual<Pack<T>>;
    const Scene<T>& scene = lin.scene;
    const int64_t plane_size = scene.height * scene.width;
    parallel_for(scene.images() * scene.tiles(), lin.tile_threads(threads), [&](int64_t index, int) {
        const Tile<T> tile(lin, index);
        const SplatTangent<T>* image_tangents = tangents + tile.image * scene.gaussians;
        TangentPass<T> push;
        uint64_t live = push.start(tile);
        for (int64_t i = tile.begin; i < tile.end && live; ++i) {
            const Splat<T>& s = tile.splat(i);
            __builtin_prefetch(image_tangents + tile.list[tile.soon(i)].splat);
            const SplatTangent<T>& t = image_tangents[tile.list[i].splat];
            const Footprint<D> f = TangentPass<T>::footprint(s, t);
            for (uint64_t blocks = tile.blocks_under(s) & live; blocks;) {
                const int block = take_lowest(blocks);
                const Pack<T> zero(T(0));
                const Coverage<D> covered =
                    cover(f, D::with_tangent(tile.block_x(block), zero), D::with_tangent(tile.block_y(block), zero));
                const Blend<D> step = blend(push.transmittance[block], covered.alpha, covered.visible);
                push.add(block, s, t, step.weight);
                if (ended(push.transmittance[block].v)) live &= ~(1ull << block);
            }
        }
        push.finish(scene.background);
        for (int c = 0; c < 3; ++c)
            write_plane(tile, push.color[c], rendered + (tile.image * 3 + c) * plane_size, scene.width);
    });
}

template void rasterize_jvp(const Linearization<float>&, const SplatTangent<float>*, float*, int);
template void rasterize_jvp(const Linearization<double>&, const SplatTangent<double>*, double*, int);

}  // namespace diff3r
