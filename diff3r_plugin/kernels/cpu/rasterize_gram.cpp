// Per splat, the Gram matrix of Jᵀ W J in its nine numbers. All of its entries are sums over pixels of monomials in
// (dx, dy) up to degree four, because the derivative of ln(alpha) is a polynomial of degree two (footprint_cotangent).
#include "gram_pass.h"
#include "parallel.h"

namespace diff3r {

template <class T> void rasterize_gram(const Linearization<T>& lin, const T* weights, T* slots, int threads) {
    using P = Pack<T>;
    const Scene<T>& scene = lin.scene;
    parallel_for(scene.images() * scene.tiles(), lin.tile_threads(threads), [&](int64_t index, int) {
        const Tile<T> tile(lin, index);
        GramPass<T> pass(lin, tile, index, weights);
        sum_by_splat<GRAM_NUMBERS>(tile, TileAlphas<T>(lin, tile, index), slots,
                                   [&](int64_t, const Splat<T>& s, const Touch<T>& touch, P* sums) {
                                       P derivative[3], energy(T(0));
                                       pass.derivatives(s, touch, derivative);
                                       const P w = pass.weight.block[touch.block];
                                       for (int c = 0; c < 3; ++c) {
                                           energy += derivative[c] * derivative[c];
                                           add_low_moments(w * derivative[c] * touch.weight, touch.dx, touch.dy, sums + 15 + 6 * c);
                                       }
                                       add_moments(w * energy, touch.dx, touch.dy, sums);
                                       sums[GRAM_NUMBERS - 1] += w * touch.weight * touch.weight;
                                   });
    });
}

template void rasterize_gram(const Linearization<float>&, const float*, float*, int);
template void rasterize_gram(const Linearization<double>&, const double*, double*, int);

}  // namespace diff3r
