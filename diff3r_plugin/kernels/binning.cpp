// The order in which tiles draw their splats: a radix sort by depth, then tile lists filled in that order. Both work
// in chunks whose results do not depend on how many there are, so the order is the same for any number of threads.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "parallel.h"
#include "state.h"

namespace diff3r {

// Where the ellipse (exponent <= log(opacity / skip)) crosses a row of tiles, exactly, and a little enlarged.
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

namespace {

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

constexpr int DIGIT = 11;
constexpr int64_t BINS = 1 << DIGIT;

inline int chunk_count(int64_t items, int threads, int64_t least) {
    return int(std::max<int64_t>(1, std::min<int64_t>(threads, items / least)));
}
inline int64_t chunk_begin(int64_t items, int chunks, int64_t chunk) { return items * chunk / chunks; }

// Stable, least significant digit first; digits in which all keys agree are skipped. The result is in `a`.
template <class K> void radix_sort(Buffer<Entry<K>>& a, Buffer<Entry<K>>& b, int64_t count, int threads) {
    const int chunks = chunk_count(count, threads, 1 << 14);
    Buffer<int64_t> histogram(chunks * BINS);
    Entry<K>*from = a.get(), *to = b.get();
    for (int shift = 0; shift < int(8 * sizeof(K)); shift += DIGIT) {
        const auto digit = [&](K key) { return int64_t((key >> shift) & K(BINS - 1)); };
        parallel_for(chunks, threads, [&](int64_t chunk, int) {
            int64_t* bins = histogram.get() + chunk * BINS;
            std::fill(bins, bins + BINS, 0);
            for (int64_t i = chunk_begin(count, chunks, chunk); i < chunk_begin(count, chunks, chunk + 1); ++i) ++bins[digit(from[i].key)];
        });
        int64_t position = 0, fullest = 0;
        for (int64_t bin = 0; bin < BINS; ++bin) {
            int64_t total = 0;
            for (int chunk = 0; chunk < chunks; ++chunk) {
                int64_t& entry = histogram[chunk * BINS + bin];
                const int64_t size = entry;
                entry = position;
                position += size;
                total += size;
            }
            fullest = std::max(fullest, total);
        }
        if (fullest == count) continue;
        parallel_for(chunks, threads, [&](int64_t chunk, int) {
            int64_t* bins = histogram.get() + chunk * BINS;
            for (int64_t i = chunk_begin(count, chunks, chunk); i < chunk_begin(count, chunks, chunk + 1); ++i)
                to[bins[digit(from[i].key)]++] = from[i];
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
};

template <class T, class Visit> void for_each_tile(const Scene<T>& scene, const Splat<T>& s, const Visit& visit) {
    for (int32_t row = s.y0 / TILE; row <= s.y1 / TILE; ++row) {
        int32_t from, to;
        tile_columns(s, row, from, to);
        for (int32_t column = from; column <= to; ++column) visit(row * scene.tiles_x() + column);
    }
}

template <class T> void fill_image(Linearization<T>& lin, const T* depths, int64_t image, int64_t image_start, Workspace<T>& work, int threads) {
    const Scene<T>& scene = lin.scene;
    const int64_t gaussians = scene.gaussians, tiles = scene.tiles();
    const int32_t* counts = lin.tile_counts.get() + image * gaussians;
    const int32_t* slots = lin.slot_starts.get() + image * gaussians;
    const Splat<T>* splats = lin.splats.get() + image * gaussians;
    int64_t visible = 0;
    for (int64_t n = 0; n < gaussians; ++n)
        if (counts[n]) work.entries[visible++] = {depth_key(depths[image * gaussians + n]), int32_t(n)};
    radix_sort(work.entries, work.other, visible, threads);

    const int chunks = chunk_count(visible, threads, 1 << 12);
    parallel_for(chunks, threads, [&](int64_t chunk, int) {
        int64_t* filled = work.tile_counts.get() + chunk * tiles;
        std::fill(filled, filled + tiles, 0);
        for (int64_t i = chunk_begin(visible, chunks, chunk); i < chunk_begin(visible, chunks, chunk + 1); ++i)
            for_each_tile(scene, splats[work.entries[i].index], [&](int64_t tile) { ++filled[tile]; });
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
        for (int64_t i = chunk_begin(visible, chunks, chunk); i < chunk_begin(visible, chunks, chunk + 1); ++i) {
            const int32_t n = work.entries[i].index;
            int32_t slot = slots[n];
            for_each_tile(scene, splats[n], [&](int64_t tile) {
                const int64_t at = next[tile]++;
                lin.tile_splats[at] = n;
                lin.tile_slots[at] = slot++;
            });
        }
    });
}

}  // namespace

template <class T> bool fill_tiles(Linearization<T>& lin, const T* depths, int threads) {
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
    lin.tile_splats.allocate(total);
    lin.tile_slots.allocate(total);
    lin.tile_starts.allocate(images * scene.tiles() + 1);
    lin.tile_starts[images * scene.tiles()] = total;

    // Many images: one thread each. Few: all threads on one after the other.
    const bool together = images >= 2 * threads;
    const int workspaces = together ? threads : 1, inner = together ? 1 : threads;
    std::vector<Workspace<T>> work(size_t(std::max(workspaces, 1)));
    for (auto& w : work) {
        w.entries.allocate(gaussians);
        w.other.allocate(gaussians);
        w.tile_counts.allocate(inner * scene.tiles());
    }
    std::atomic<bool> failed{false};  // radix_sort's histogram is the only allocation left
    parallel_for(images, together ? threads : 1, [&](int64_t image, int thread) {
        try {
            fill_image(lin, depths, image, image_starts[size_t(image)], work[size_t(thread)], inner);
        } catch (const std::bad_alloc&) {
            failed = true;
        }
    });
    if (failed) throw std::bad_alloc();
    return true;
}

template void tile_columns(const Splat<float>&, int32_t, int32_t&, int32_t&);
template void tile_columns(const Splat<double>&, int32_t, int32_t&, int32_t&);
template bool fill_tiles(Linearization<float>&, const float*, int);
template bool fill_tiles(Linearization<double>&, const double*, int);

}  // namespace diff3r
