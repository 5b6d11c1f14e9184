// Per splat, the ten sums over pixels from which the diagonal of Jᵀ W J in θ is made.
#include "math/gram_diagonal.h"
#include "parallel.h"
#include "tile_passes.h"

namespace diff3r {

template <class T> void rasterize_gram_diagonal(const Linearization<T>& lin, const T* weights, const T* mean_moves, T* slots, int threads) {
    using P = Pack<T>;
    const Scene<T>& scene = lin.scene;
    const P zero(T(0));
    const bool turns = scene.bases > 1;
    parallel_for(scene.images() * scene.tiles(), lin.tile_threads(threads), [&](int64_t index, int) {
        const Tile<T> tile(lin, index);
        const T* moves = mean_moves + tile.image * scene.gaussians * MEAN_MOVE;
        Plane<T> transmittance, weight, behind[3];
        uint64_t live = start_rays(tile, transmittance);
        read_plane(tile, weights + tile.image * scene.height * scene.width, scene.width, T(0), weight);
        std::memcpy(static_cast<void*>(behind), lin.tiled_image.get() + index * 3 * TILE * TILE, sizeof(behind));
        for (int64_t i = tile.begin; i < tile.end; ++i) {
            T* slot = slots + int64_t(tile.list[i].slot) * DIAGONAL_SUMS;
            if (!live) {
                std::memset(slot, 0, DIAGONAL_SUMS * sizeof(T));
                continue;
            }
            const Splat<T>& s = tile.splat(i);
            __builtin_prefetch(moves + tile.list[tile.soon(i)].splat * MEAN_MOVE);
            const T* move = moves + tile.list[i].splat * MEAN_MOVE;
            const Footprint<P> f = footprint(s);
            P sums[DIAGONAL_SUMS];
            for (auto& x : sums) x = zero;
            for (uint64_t blocks = tile.blocks_under(s) & live; blocks;) {
                const int block = take_lowest(blocks);
                const Coverage<P> covered = cover(f, tile.block_x(block), tile.block_y(block));
                P& ray = transmittance.block[block];
                const Blend<P> step = blend(ray, covered.alpha, covered.visible);
                const auto pulls = both(step.taken, covered.free);
                P derivative[3];
                for (int c = 0; c < 3; ++c) {
                    P& rest = behind[c].block[block];
                    const P light = P(s.color[c]);
                    rest = rest - step.weight * light;
                    derivative[c] = select(pulls, log_alpha_derivative(step.weight, covered.alpha, light, rest), zero);
                }
                add_pixel(weight.block[block], step.weight, derivative, covered.dx, covered.dy, move, turns, sums);
                if (ended(ray)) live &= ~(1ull << block);
            }
            write_sums<DIAGONAL_SUMS>(sums, slot);
        }
    });
}

template void rasterize_gram_diagonal(const Linearization<float>&, const float*, const float*, float*, int);
template void rasterize_gram_diagonal(const Linearization<double>&, const double*, const double*, double*, int);

}  // namespace diff3r
