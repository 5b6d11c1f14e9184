// What a linearization keeps: projected splats and, per tile, the list of splats from front to back and their alphas.
#pragma once

#include "alpha_store.h"
#include "api.h"
#include "buffer.h"
#include "parallel.h"
#include "pack.h"
#include "math/splat_chain.h"

namespace diff3r {

// One Gaussian in one view. The last pixels x1, y1 belong to the box.
template <class T> struct alignas(64) Splat {
    T x, y, a, b, c, opacity;
    T color[3];
    int32_t x0, y0, x1, y1;
};

// How ln(alpha) and the color of a splat move; see footprint_tangent.
template <class T> struct alignas(64) SplatTangent {
    T log_alpha[6];
    T color[3];
};

// Which tiles a splat touches: a box of tiles, and up to 16 of them as a set (bit = column + columns * row).
struct TileBox {
    uint16_t x, y;
    uint8_t columns;  // 0: a large box, whose tiles are found row by row (tile_columns)
    uint8_t rows;
    uint16_t set;
};

// A tile list: which splat comes next, and where its gradient goes (all slots of a splat are neighbors).
struct TileEntry {
    int32_t splat;
    int32_t slot;
};

template <class T> struct Scene : Inputs<T> {
    int64_t max_intersections;
    explicit Scene(const Diff3rScene& s) : Inputs<T>(s.inputs), max_intersections(s.max_intersections) {}
};

template <class T> struct Linearization {
    Scene<T> scene;
    Buffer<Splat<T>> splats;       // [images, N]; only entries with tiles are written
    Buffer<int32_t> tile_counts;   // [images, N]; 0: not rendered
    Buffer<uint8_t> lit;           // [images, N]; bit c: channel c is not clamped at zero
    Buffer<int32_t> slot_starts;   // [images, N]; first of the splat's gradient slots
    Buffer<int64_t> tile_starts;   // [images * tiles + 1]
    Buffer<TileEntry> tile_lists;  // [intersections], front to back within each tile; splats count from 0 per image
    Buffer<T> tiled_image;         // [images * tiles, 3, blocks, lanes]
    AlphaStore<T> alphas;
    int64_t intersections = 0;
    Diff3rCounts counts{};

    explicit Linearization(const Diff3rScene& s) : scene(s) {}
    // Threads worth waking for work on all Gaussians and on all tiles.
    int gaussian_threads(int threads) const { return threads_for(scene.images() * scene.gaussians, 1 << 12, threads); }
    int tile_threads(int threads) const { return threads_for(intersections + 16 * scene.images() * scene.tiles(), 1 << 12, threads); }
    int64_t bytes() const {
        return splats.bytes() + tile_counts.bytes() + lit.bytes() + slot_starts.bytes() + tile_starts.bytes() + tile_lists.bytes() +
               tiled_image.bytes() + alphas.bytes();
    }
};

// What the sort needs to know of each (image, Gaussian); written for those that are rendered.
template <class T> struct SortInput {
    Buffer<T> depths;
    Buffer<TileBox> boxes;
};
// project.cpp: splats, tile_counts, counts and `sort`.
template <class T> void project_splats(Linearization<T>& lin, SortInput<T>& sort, int threads);
// binning.cpp: sorts by depth and fills the tile lists; false if there are more intersections than allowed.
template <class T> bool fill_tiles(Linearization<T>& lin, const SortInput<T>& sort, int threads);
// The tiles that a splat touches, and how many they are.
template <class T> int32_t find_tiles(const Splat<T>& splat, TileBox& box);
// rasterize.cpp
template <class T> void rasterize(Linearization<T>& lin, T* rendered, int threads);
// rasterize_jvp.cpp
template <class T> void rasterize_jvp(const Linearization<T>& lin, const SplatTangent<T>* tangents, T* rendered, int threads);
// rasterize_vjp.cpp, rasterize_product.cpp: by slot, six moments (footprint_cotangent) and three colors, of
// [intersections, SPLAT_NUMBERS]. All slot arrays have SLOT_PADDING more numbers.
constexpr int SLOT_PADDING = 64;
template <class T> void rasterize_vjp(const Linearization<T>& lin, const T* cotangent, T* slots, int threads);
template <class T>
void rasterize_product(const Linearization<T>& lin, const SplatTangent<T>* tangents, const T* weights, T* slots, int threads);
// rasterize_gram.cpp: [intersections, GRAM_NUMBERS] by slot.
template <class T> void rasterize_gram(const Linearization<T>& lin, const T* weights, T* slots, int threads);
// rasterize_gram_diagonal.cpp: [intersections, DIAGONAL_SUMS] by slot, from mean_moves [images, N, MEAN_MOVE].
template <class T> void rasterize_gram_diagonal(const Linearization<T>& lin, const T* weights, const T* mean_moves, T* slots, int threads);
// splat_jvp.cpp, splat_vjp.cpp, splat_gram.cpp: between splats and Gaussians.
// Tangents and cotangents (chart_packs.h) are those of the Gaussians' own numbers or of θ.
template <class T, class Tangent> void splat_jvp(const Linearization<T>& lin, const Tangent& tangent, SplatTangent<T>* out, int threads);
template <class T, class Cotangent> void splat_vjp(const Linearization<T>& lin, const T* slots, const Cotangent& out, int threads);
template <class T> void splat_gram(const Linearization<T>& lin, const T* slots, T* core, T* rest, int threads);
// chart_gram.cpp, chart_decode.cpp: in terms of θ.
template <class T> struct Chart;
template <class T> void mean_moves(const Linearization<T>& lin, T* out, int threads);
template <class T> void chart_gram_diagonal(const Linearization<T>& lin, const T* slots, const Chart<T>& chart, T* out, int threads);
template <class T> void chart_decode(const Scene<T>& reference, const Chart<T>& chart, const VectorView<T>& out, int threads);

}  // namespace diff3r
