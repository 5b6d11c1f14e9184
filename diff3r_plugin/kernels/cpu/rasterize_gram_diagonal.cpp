// Per splat, the ten sums over pixels from which the diagonal of Jᵀ W J in θ is made.
#include "gram_pass.h"
#include "math/gram_diagonal.h"
#include "parallel.h"

namespace diff3r {

template <class T> void rasterize_gram_diagonal(const Linearization<T>& lin, const T* weights, const T* mean_moves, T* slots, int threads) {
    using P = Pack<T>;
    const Scene<T>& scene = lin.scene;
    const bool turns = scene.bases > 1;
    parallel_for(scene.images() * scene.tiles(), lin.tile_threads(threads), [&](int64_t index, int) {
        const Tile<T> tile(lin, index);
        const T* moves = mean_moves + tile.image * scene.gaussians * MEAN_MOVE;
        GramPass<T> pass(lin, tile, index, weights);
        sum_by_splat<DIAGONAL_SUMS>(tile, TileAlphas<T>(lin, tile, index), slots,
                                    [&](int64_t i, const Splat<T>& s, const Touch<T>& touch, P* sums) {
                                        const T* soon = moves + tile.list[tile.soon(i)].splat * MEAN_MOVE;
                                        __builtin_prefetch(soon);
                                        __builtin_prefetch(soon + MEAN_MOVE - 1);
                                        P derivative[3];
                                        pass.derivatives(s, touch, derivative);
                                        const T* move = moves + tile.list[i].splat * MEAN_MOVE;
                                        add_pixel(pass.weight.block[touch.block], touch.weight, derivative, touch.dx, touch.dy, move, turns, sums);
                                    });
    });
}

template void rasterize_gram_diagonal(const Linearization<float>&, const float*, const float*, float*, int);
template void rasterize_gram_diagonal(const Linearization<double>&, const double*, const double*, double*, int);

}  // namespace diff3r
