// The order in which tiles render their splats: a radix sort by depth, then tile lists filled in that order. Both work
// in chunks whose results do not depend on how many there are, so the order is the same for any number of threads.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "parallel.h"
#include "state.h"

namespace diff3r {

namespace {

// The columns of tiles [first, last] that a splat touches in one row of tiles (empty: first > last): where the ellipse
// (exponent <= log(opacity / skip)) crosses the row, exactly, and a little enlarged. Never inlined, so that counting
// and filling get the same answer to the last bit.
template <class T> __attribute__((noinline)) void tile_columns(const Splat<T>& s, int32_t tile_row, int32_t& first, int32_t& last) {
    first = s.x0 / TILE;
    last = s.x1 / TILE;
    if (first == last || s.y0 / TILE == s.y1 / TILE) return;
    // For a given dy the ellipse spans dx = (-b dy ± sqrt(a q - D dy²)) / a with D = a c - b², q = 2 log(...).
    // Its rightmost point within [low, high] is at dy = -b sqrt(q / (c D)), or as near to it as the row allows.
    // In double, so that the products of floats are exact and D survives the cancellation of needle-shaped splats.
    const double a = double(s.a), b = double(s.b), c = double(s.c);
    const double q = 2 * std::log(double(s.opacity) / ALPHA_SKIP) * 1.0002 + 1e-4;
    const double determinant = a * c - b * b;
    if (!(determinant > 0) || !(a > 0)) return;
    const double height = std::sqrt(q * a / determinant);
    const double low = std::max(double(tile_row * TILE) - double(s.y), -height);
    const double high = std::min(double(tile_row * TILE + TILE) - double(s.y), height);
    if (!(low <= high)) return;  // rounding only: the box says that the row is touched
    const double extreme = b * std::sqrt(q / (c * determinant));
    const auto edge = [&](double dy, double sign) {
        const double inside = a * q - determinant * dy * dy;
        return (-b * dy + sign * std::sqrt(inside > 0 ? inside : 0)) / a;
    };
    const double right = double(s.x) + edge(std::min(std::max(-extreme, low), high), 1) + 0.01;
    const double left = double(s.x) + edge(std::min(std::max(extreme, low), high), -1) - 0.01;
    if (!(left <= right)) return;
    const double from = std::floor(left / TILE), to = std::floor(right / TILE);
    if (from > first) first = from > last ? last + 1 : int32_t(from);
    if (to < last) last = to < first ? first - 1 : int32_t(to);
}

// Keys whose unsigned order is the order of the floats.
inline uint32_t depth_key(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
inline uint64_t depth_key(double x) {
    uint64_t bits;
    std::memcpy(&bits, &x, 8);
    return bits >> 63 ? ~bits : bits | 0x8000000000000000u;
}

template <class K> struct Entry {
    K key;
    int32_t index;
};

constexpr int MAX_DIGIT = 12;  // bits

// Calls body(i) for the items of one of `chunks` equal parts.
template <class Body> DIFF3R_INLINE void for_chunk(int64_t items, int chunks, int64_t chunk, const Body& body) {
    const int64_t end = items * (chunk + 1) / chunks;
    for (int64_t i = items * chunk / chunks; i < end; ++i) body(i);
}

// Stable, least significant digit first, over no more digits than the spread of the keys needs. Result in `a`.
template <class K> void radix_sort(Buffer<Entry<K>>& a, Buffer<Entry<K>>& b, Buffer<int64_t>& histogram, int64_t count, int threads) {
    if (count < 2) return;
    K least = a[0].key, greatest = a[0].key;
    for (int64_t i = 1; i < count; ++i) {
        least = std::min(least, a[i].key);
        greatest = std::max(greatest, a[i].key);
    }
    int bits = 0;
    while (bits < int(8 * sizeof(K)) && ((greatest - least) >> bits)) ++bits;
    const int passes = (bits + MAX_DIGIT - 1) / MAX_DIGIT, digit_bits = passes ? (bits + passes - 1) / passes : 0;
    const int64_t bins = int64_t(1) << digit_bits;
    const int chunks = threads_for(count, 1 << 17, threads);
    Entry<K>*from = a.get(), *to = b.get();
    for (int pass = 0; pass < passes; ++pass) {
        const auto digit = [&](K key) { return int64_t(((key - least) >> (pass * digit_bits)) & K(bins - 1)); };
        parallel_for(chunks, threads, [&](int64_t chunk, int) {
            int64_t* filled = histogram.get() + chunk * bins;
            std::fill(filled, filled + bins, 0);
            for_chunk(count, chunks, chunk, [&](int64_t i) { ++filled[digit(from[i].key)]; });
        });
        int64_t position = 0;
        for (int64_t bin = 0; bin < bins; ++bin)
            for (int chunk = 0; chunk < chunks; ++chunk) {
                int64_t& entry = histogram[chunk * bins + bin];
                const int64_t size = entry;
                entry = position;
                position += size;
            }
        parallel_for(chunks, threads, [&](int64_t chunk, int) {
            int64_t* next = histogram.get() + chunk * bins;
            for_chunk(count, chunks, chunk, [&](int64_t i) { to[next[digit(from[i].key)]++] = from[i]; });
        });
        std::swap(from, to);
    }
    if (from != a.get()) std::memcpy(static_cast<void*>(a.get()), from, size_t(count) * sizeof(Entry<K>));
}

template <class T> using KeyOf = decltype(depth_key(T()));

// Scratch of one image; images that are binned at the same time have their own.
template <class T> struct Workspace {
    Buffer<Entry<KeyOf<T>>> entries, other;
    Buffer<int64_t> tile_counts;  // [chunks, tiles]
    Buffer<int64_t> histogram;    // [chunks, 2^MAX_DIGIT]
};

template <class T, class Visit> DIFF3R_INLINE void for_each_tile(const TileBox& box, const Splat<T>& s, int64_t tiles_x, const Visit& visit) {
    if (box.columns == 0) {
        for (int32_t row = s.y0 / TILE; row <= s.y1 / TILE; ++row) {
            int32_t from, to;
            tile_columns(s, row, from, to);
            for (int32_t column = from; column <= to; ++column) visit(row * tiles_x + column);
        }
        return;
    }
    const int64_t corner = box.y * tiles_x + box.x;
    for (uint32_t set = box.set; set; set &= set - 1) {
        const int bit = __builtin_ctz(set);
        visit(corner + bit / box.columns * tiles_x + bit % box.columns);
    }
}

template <class T> void fill_image(Linearization<T>& lin, const SortInput<T>& sort, int64_t image, int64_t image_start, Workspace<T>& work, int threads) {
    const Scene<T>& scene = lin.scene;
    const int64_t gaussians = scene.gaussians, tiles = scene.tiles();
    const int32_t* counts = lin.tile_counts.get() + image * gaussians;
    const int32_t* slots = lin.slot_starts.get() + image * gaussians;
    const Splat<T>* splats = lin.splats.get() + image * gaussians;
    const T* depths = sort.depths.get() + image * gaussians;
    const TileBox* boxes = sort.boxes.get() + image * gaussians;
    const int64_t tiles_x = scene.tiles_x();
    int64_t visible = 0;
    for (int64_t n = 0; n < gaussians; ++n)
        if (counts[n]) work.entries[visible++] = {depth_key(depths[n]), int32_t(n)};
    radix_sort(work.entries, work.other, work.histogram, visible, threads);

    // In the order of depth, what is read of Gaussians lies all over the place.
    const auto soon = [&](int64_t i) { return work.entries[std::min(i + 16, visible - 1)].index; };
    const int chunks = threads_for(visible, 1 << 15, threads);
    parallel_for(chunks, threads, [&](int64_t chunk, int) {
        int64_t* filled = work.tile_counts.get() + chunk * tiles;
        std::fill(filled, filled + tiles, 0);
        for_chunk(visible, chunks, chunk, [&](int64_t i) {
            __builtin_prefetch(boxes + soon(i));
            const int32_t n = work.entries[i].index;
            for_each_tile(boxes[n], splats[n], tiles_x, [&](int64_t tile) { ++filled[tile]; });
        });
    });
    int64_t position = image_start;
    for (int64_t tile = 0; tile < tiles; ++tile) {
        lin.tile_starts[image * tiles + tile] = position;
        for (int chunk = 0; chunk < chunks; ++chunk) {
            int64_t& entry = work.tile_counts[chunk * tiles + tile];
            const int64_t size = entry;
            entry = position;
            position += size;
        }
    }
    parallel_for(chunks, threads, [&](int64_t chunk, int) {
        int64_t* next = work.tile_counts.get() + chunk * tiles;
        for_chunk(visible, chunks, chunk, [&](int64_t i) {
            __builtin_prefetch(boxes + soon(i));
            __builtin_prefetch(slots + soon(i));
            const int32_t n = work.entries[i].index;
            int32_t slot = slots[n];
            for_each_tile(boxes[n], splats[n], tiles_x, [&](int64_t tile) { lin.tile_lists[next[tile]++] = {n, slot++}; });
        });
    });
}

}  // namespace

template <class T> int32_t find_tiles(const Splat<T>& s, TileBox& box) {
    const int32_t x = s.x0 / TILE, y = s.y0 / TILE, columns = s.x1 / TILE - x + 1, rows = s.y1 / TILE - y + 1;
    int32_t count = 0;
    if (columns * int64_t(rows) > 16) {
        box = {0, 0, 0, 0, 0};
        for_each_tile(box, s, 1, [&](int64_t) { ++count; });
        return count;
    }
    box = {uint16_t(x), uint16_t(y), uint8_t(columns), uint8_t(rows), 0};
    if (columns == 1 || rows == 1) {
        count = columns * rows;
        box.set = uint16_t((1u << count) - 1);
        return count;
    }
    for (int32_t row = 0; row < rows; ++row) {
        int32_t from, to;
        tile_columns(s, y + row, from, to);
        for (int32_t column = from; column <= to; ++column, ++count) box.set |= uint16_t(1u << (column - x + columns * row));
    }
    return count;
}

template <class T> bool fill_tiles(Linearization<T>& lin, const SortInput<T>& sort, int threads) {
    const Scene<T>& scene = lin.scene;
    const int64_t images = scene.images(), gaussians = scene.gaussians;
    std::vector<int64_t> image_starts(size_t(images) + 1, 0);
    lin.slot_starts.allocate(images * gaussians);
    int64_t total = 0;
    for (int64_t image = 0; image < images; ++image) {
        image_starts[size_t(image)] = total;
        for (int64_t n = image * gaussians; n < (image + 1) * gaussians; ++n) {
            lin.slot_starts[n] = int32_t(total);  // meaningless beyond 2^31, where the next lines give up
            total += lin.tile_counts[n];
        }
    }
    lin.intersections = lin.counts.intersections = total;
    if (total > scene.max_intersections || total > std::numeric_limits<int32_t>::max()) return false;
    lin.tile_lists.allocate(total);
    lin.tile_starts.allocate(images * scene.tiles() + 1);
    lin.tile_starts[images * scene.tiles()] = total;

    // Many images: one thread each. Few: all threads on one after the other.
    if (images * gaussians < 1 << 15) threads = 1;
    const bool together = images >= 2 * threads;
    const int workspaces = together ? threads : 1, inner = together ? 1 : threads;
    std::vector<Workspace<T>> work(size_t(std::max(workspaces, 1)));
    for (auto& w : work) {
        w.entries.allocate(gaussians);
        w.other.allocate(gaussians);
        w.tile_counts.allocate(inner * scene.tiles());
        w.histogram.allocate(int64_t(inner) << MAX_DIGIT);
    }
    parallel_for(images, together ? threads : 1, [&](int64_t image, int thread) {
        fill_image(lin, sort, image, image_starts[size_t(image)], work[size_t(thread)], inner);
    });
    return true;
}

template int32_t find_tiles(const Splat<float>&, TileBox&);
template int32_t find_tiles(const Splat<double>&, TileBox&);
template bool fill_tiles(Linearization<float>&, const SortInput<float>&, int);
template bool fill_tiles(Linearization<double>&, const SortInput<double>&, int);

}  // namespace diff3r
