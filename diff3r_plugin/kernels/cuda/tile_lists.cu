// Which splats each tile has to look at, front to back: pairs of a splat and a tile, made in the order of depth and sorted by tile
// (render/tile_lists.py).
#include "device.h"

namespace diff3r {

constexpr int LIST_THREADS = 128, PAIR_THREADS = 256, PAIRS_A_THREAD = 4;
constexpr double SLACK = 1e-3;  // by which an ellipse may be larger than it is, so that rounding drops nothing that shows; of its exponent

// Calls body(tile) for the tiles, counted over all images, at one of whose pixels' centers a splat may show.
template <class T> struct SplatTiles {
    T x, y, a, b, c, limit;
    int64_t first_tile, columns;  // of the splat's image
    int left, right, top, bottom;  // the tiles under its box; empty where it is not rendered

    __device__ __forceinline__ SplatTiles(const DeviceScene<T>& scene, int64_t splat) {
        x = scene.means2d[2 * splat], y = scene.means2d[2 * splat + 1];
        a = scene.conics[3 * splat], b = scene.conics[3 * splat + 1], c = scene.conics[3 * splat + 2];
        limit = logarithm(scene.splat_opacities[splat] / T(ALPHA_SKIP)) * T(1 + SLACK) + T(SLACK);
        columns = scene.tiles_x();
        first_tile = splat / scene.gaussians * scene.tiles();
        const int32_t across = scene.radii[2 * splat], down = scene.radii[2 * splat + 1];
        const bool rendered = across > 0 && down > 0;
        left = rendered ? within((x - T(across)) / T(TILE), columns, false) : 0;
        right = rendered ? within((x + T(across)) / T(TILE), columns, true) : 0;
        top = rendered ? within((y - T(down)) / T(TILE), scene.tiles_y(), false) : 0;
        bottom = rendered ? within((y + T(down)) / T(TILE), scene.tiles_y(), true) : 0;
    }

    template <class Body> __device__ __forceinline__ void each(const Body& body) const {
        for (int row = top; row < bottom; ++row)
            for (int column = left; column < right; ++column)
                if (shows(column, row)) body(int32_t(first_tile + row * columns + column));
    }

private:
    // A place in tiles, rounded down or up to a whole one between zero and `count`.
    static __device__ __forceinline__ int within(T place, int64_t count, bool up) {
        if (!(place > T(0))) return 0;
        if (place >= T(count)) return int(count);
        const int whole = int(place);
        return up && T(whole) < place ? whole + 1 : whole;
    }
    static __device__ __forceinline__ T between(T value, T low, T high) { return value < low ? low : value > high ? high : value; }
    __device__ __forceinline__ T exponent(T dx, T dy) const { return T(0.5) * (a * dx * dx + c * dy * dy) + b * dx * dy; }
    // The exponent is convex: between the centers of a tile's corner pixels its least value is 0 if the splat's own center is there,
    // and on one of the four sides otherwise.
    __device__ __forceinline__ bool shows(int column, int row) const {
        const T west = T(column) * T(TILE) + T(0.5) - x, east = west + T(TILE - 1);
        const T north = T(row) * T(TILE) + T(0.5) - y, south = north + T(TILE - 1);
        if (west <= T(0) && east >= T(0) && north <= T(0) && south >= T(0)) return true;
        return exponent(west, between(-b * west / c, north, south)) <= limit || exponent(east, between(-b * east / c, north, south)) <= limit ||
               exponent(between(-b * north / a, west, east), north) <= limit || exponent(between(-b * south / a, west, east), south) <= limit;
    }
};

// How many tiles there are for the splat at each place of `order`, [I N].
template <class T> __device__ __forceinline__ void count_tiles(const DeviceScene<T>& scene, const int64_t* order, int64_t* counts) {
    const int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at >= scene.images() * scene.gaussians) return;
    int64_t count = 0;
    SplatTiles<T>(scene, order[at]).each([&](int32_t) { ++count; });
    counts[at] = count;
}

// Those tiles and the splat, side by side, up to ends[place].
template <class T>
__device__ __forceinline__ void list_tiles(const DeviceScene<T>& scene, const int64_t* order, const int64_t* ends, int32_t* tiles, int32_t* splats) {
    const int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at >= scene.images() * scene.gaussians) return;
    int64_t pair = at ? ends[at - 1] : 0;
    SplatTiles<T>(scene, order[at]).each([&](int32_t tile) {
        tiles[pair] = tile;
        splats[pair] = int32_t(order[at]);
        ++pair;
    });
}

// The splats in the order of the sorted tiles, and where each tile's begin.
template <class T>
__device__ __forceinline__ void gather_tiles(int64_t pairs, int64_t count, const int32_t* tiles, const int64_t* order, const int32_t* splats,
                                             int32_t* flatten_ids, int32_t* offsets) {
    int64_t at = int64_t(blockIdx.x) * (PAIR_THREADS * PAIRS_A_THREAD) + threadIdx.x;
    for (int i = 0; i < PAIRS_A_THREAD && at < pairs; ++i, at += PAIR_THREADS) {
        flatten_ids[at] = splats[order[at]];
        for (int64_t tile = at ? tiles[at - 1] + 1 : 0; tile <= tiles[at]; ++tile) offsets[tile] = int32_t(at);
        if (at == pairs - 1)
            for (int64_t tile = tiles[at] + 1; tile < count; ++tile) offsets[tile] = int32_t(pairs);
    }
}

}  // namespace diff3r

DIFF3R_KERNEL(count_tiles, LIST_THREADS, (Diff3rDeviceScene scene, const int64_t* order, int64_t* counts), (DeviceScene<T>(scene), order, counts))
DIFF3R_KERNEL(list_tiles, LIST_THREADS,
              (Diff3rDeviceScene scene, const int64_t* order, const int64_t* ends, int32_t* tiles, int32_t* splats),
              (DeviceScene<T>(scene), order, ends, tiles, splats))
DIFF3R_KERNEL(gather_tiles, PAIR_THREADS,
              (Diff3rSystems pairs, int64_t count, const int32_t* tiles, const int64_t* order, const int32_t* splats, int32_t* flatten_ids,
               int32_t* offsets),
              (pairs.unknowns, count, tiles, order, splats, flatten_ids, offsets))
