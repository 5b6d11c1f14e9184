// Jᵀ u on splats, from front to back: what lies behind a splat is what is left of u · image once everything up to
// the splat has been subtracted, so neither a second traversal nor a division of transmittances is needed.
#include "parallel.h"
#include "tile_passes.h"

namespace diff3r {

template <class T> void rasterize_vjp(const Linearization<T>& lin, const T* cotangent, T* slots, int threads) {
    const Scene<T>& scene = lin.scene;
    const int64_t plane_size = scene.height * scene.width;
    parallel_for(scene.images() * scene.tiles(), lin.tile_threads(threads), [&](int64_t index, int) {
        const Tile<T> tile(lin, index);
        const TileAlphas<T> alphas(lin, tile, index);
        CotangentPass<T> pull;
        for (int c = 0; c < 3; ++c)
            read_plane(tile, cotangent + (tile.image * 3 + c) * plane_size, scene.width, T(0), pull.cotangent[c]);
        pull.start(lin.tiled_image.get() + index * 3 * TILE * TILE);
        sum_by_splat<SPLAT_NUMBERS>(tile, alphas, slots,
                                    [&](int64_t, const Splat<T>& s, const Touch<T>& touch, Pack<T>* sums) { pull.add(s, touch, sums); });
    });
}

template void rasterize_vjp(const Linearization<float>&, const float*, float*, int);
template void rasterize_vjp(const Linearization<double>&, const double*, double*, int);

}  // namespace diff3r
