// Jᵀ u on splats, from front to back: what lies behind a splat is what is left of u · image once everything up to
// the splat has been subtracted, so neither a second traversal nor a division of transmittances is needed.
#include "parallel.h"
#include "tile_passes.h"

namespace diff3r {

template <class T> void rasterize_vjp(const Linearization<T>& lin, const T* cotangent, T* slots, int threads) {
    using P = Pack<T>;
    const Scene<T>& scene = lin.scene;
    const int64_t plane_size = scene.height * scene.width;
    parallel_for(scene.images() * scene.tiles(), lin.tile_threads(threads), [&](int64_t index, int) {
        const Tile<T> tile(lin, index);
        CotangentPass<T> pull;
        uint64_t live = start_rays(tile, pull.transmittance);
        for (int c = 0; c < 3; ++c)
            read_plane(tile, cotangent + (tile.image * 3 + c) * plane_size, scene.width, T(0), pull.cotangent[c]);
        pull.start(lin.tiled_image.get() + index * 3 * TILE * TILE);
        for (int64_t i = tile.begin; i < tile.end; ++i) {
            T* slot = slots + int64_t(tile.list[i].slot) * SPLAT_NUMBERS;
            if (!live) {
                clear_slot(slot);
                continue;
            }
            const Splat<T>& s = tile.splat(i);
            const Footprint<P> f = footprint(s);
            SplatSums<T> sums;
            for (uint64_t blocks = tile.blocks_under(s) & live; blocks;) {
                const int block = take_lowest(blocks);
                const Coverage<P> covered = cover(f, tile.block_x(block), tile.block_y(block));
                P& ray = pull.transmittance.block[block];
                const Blend<P> step = blend(ray, covered.alpha, covered.visible);
                pull.add(block, s, step.weight, covered.alpha, both(step.taken, covered.free), covered.dx, covered.dy, sums);
                if (ended(ray)) live &= ~(1ull << block);
            }
            sums.write(slot);
        }
    });
}

template void rasterize_vjp(const Linearization<float>&, const float*, float*, int);
template void rasterize_vjp(const Linearization<double>&, const double*, double*, int);

}  // namespace diff3r
