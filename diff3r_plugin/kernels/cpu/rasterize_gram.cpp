// Per splat, the Gram matrix of Jᵀ W J in its nine numbers. All of its entries are sums over pixels of monomials in
// (dx, dy) up to degree four, because the derivative of ln(alpha) is a polynomial of degree two (footprint_cotangent).
#include "parallel.h"
#include "tile_passes.h"

namespace diff3r {
namespace {

template <class T> struct GramSums {
    Pack<T> number[GRAM_NUMBERS];
    DIFF3R_INLINE GramSums() {
        for (auto& x : number) x = Pack<T>(T(0));
    }
};

}  // namespace

template <class T> void rasterize_gram(const Linearization<T>& lin, const T* weights, T* slots, int threads) {
    using P = Pack<T>;
    const Scene<T>& scene = lin.scene;
    const P zero(T(0));
    parallel_for(scene.images() * scene.tiles(), lin.tile_threads(threads), [&](int64_t index, int) {
        const Tile<T> tile(lin, index);
        Plane<T> transmittance, weight, behind[3];
        uint64_t live = start_rays(tile, transmittance);
        read_plane(tile, weights + tile.image * scene.height * scene.width, scene.width, T(0), weight);
        std::memcpy(static_cast<void*>(behind), lin.tiled_image.get() + index * 3 * TILE * TILE, sizeof(behind));
        for (int64_t i = tile.begin; i < tile.end; ++i) {
            T* slot = slots + int64_t(tile.list[i].slot) * GRAM_NUMBERS;
            if (!live) {
                std::memset(slot, 0, GRAM_NUMBERS * sizeof(T));
                continue;
            }
            const Splat<T>& s = tile.splat(i);
            const Footprint<P> f = footprint(s);
            GramSums<T> sums;
            for (uint64_t blocks = tile.blocks_under(s) & live; blocks;) {
                const int block = take_lowest(blocks);
                const Coverage<P> covered = cover(f, tile.block_x(block), tile.block_y(block));
                P& ray = transmittance.block[block];
                const Blend<P> step = blend(ray, covered.alpha, covered.visible);
                const auto pulls = both(step.taken, covered.free);
                const P w = weight.block[block];
                P energy = zero;
                for (int c = 0; c < 3; ++c) {
                    P& rest = behind[c].block[block];
                    const P light = P(s.color[c]);
                    rest = rest - step.weight * light;
                    const P derivative = select(pulls, log_alpha_derivative(step.weight, covered.alpha, light, rest), zero);
                    energy += derivative * derivative;
                    add_low_moments(w * derivative * step.weight, covered.dx, covered.dy, sums.number + 15 + 6 * c);
                }
                add_moments(w * energy, covered.dx, covered.dy, sums.number);
                sums.number[GRAM_NUMBERS - 1] += w * step.weight * step.weight;
                if (ended(ray)) live &= ~(1ull << block);
            }
            write_sums<GRAM_NUMBERS>(sums.number, slot);
        }
    });
}

template void rasterize_gram(const Linearization<float>&, const float*, float*, int);
template void rasterize_gram(const Linearization<double>&, const double*, double*, int);

}  // namespace diff3r
