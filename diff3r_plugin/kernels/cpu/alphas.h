// The alphas of a tile's splats at its pixels, written while it is rendered and read by all products, which therefore
// evaluate no exponential and do not ask again which splats a ray takes.
#pragma once

#include "canvas.h"

namespace diff3r {

// Every pass over a view goes through some 30 MB of alphas, faster than the processor's own guesses bring them.
constexpr int REGISTERS_AHEAD = 16;

// Takes the splats of a tile from front to back. keep.begin() comes before each, keep.add() at each block under its box,
// with the alphas and the pixels that take it, keep.end(i) after it; light(block, splat, weight) adds its color.
template <class T, class Keep, class Light>
DIFF3R_INLINE int64_t march(const Tile<T>& tile, Plane<T>& transmittance, Keep& keep, const Light& light) {
    using P = Pack<T>;
    uint64_t live = start_rays(tile, transmittance);
    int64_t i = tile.begin;
    for (; i < tile.end && live; ++i) {
        const Splat<T>& s = tile.splat(i);
        const Footprint<P> f = footprint(s);
        keep.begin();
        for (uint64_t blocks = tile.blocks_under(s) & live; blocks;) {
            const int block = take_lowest(blocks);
            const Coverage<P> covered = cover(f, tile.block_x(block), tile.block_y(block));
            P& ray = transmittance.block[block];
            const Blend<P> step = blend(ray, covered.alpha, covered.visible);
            keep.add(block, covered.alpha, step.taken);
            light(block, s, step.weight);
            if (ended(ray)) live &= ~(1ull << block);
        }
        keep.end(i);
    }
    return i;  // no ray goes on to this one
}

template <class T> struct KeepNothing {
    DIFF3R_INLINE void begin() {}
    DIFF3R_INLINE void add(int, const Pack<T>&, const PackMask<T>&) {}
    DIFF3R_INLINE void end(int64_t) {}
};

// Writes registers one after the other, leaving out those that nobody takes.
template <class T> struct AlphaPen {
    T* at;
    uint64_t taken;
    DIFF3R_INLINE void add(int block, const Pack<T>& alpha, const PackMask<T>& takes) {
        __builtin_prefetch(at + REGISTERS_AHEAD * Pack<T>::lanes, 1);
        select(takes, alpha, Pack<T>(T(0))).store(at);
        const bool counts = any(takes);
        at += counts ? Pack<T>::lanes : 0;
        taken |= uint64_t(counts) << block;
    }
};

// What is left of a thread's chunk.
template <class T> struct Room {
    T *at = nullptr, *end = nullptr;
};

// Keeps the alphas of one tile.
template <class T> class AlphaWriter : public AlphaPen<T> {
  public:
    AlphaWriter(AlphaStore<T>& store, Room<T>& room) : AlphaPen<T>{room.at, 0}, store_(store), room_(room), first_(room.at) {}
    DIFF3R_INLINE void begin() {
        if (lost_ || room_.end - this->at < TILE * TILE) make_room();
        this->taken = 0;
    }
    DIFF3R_INLINE void end(int64_t i) { store_.blocks()[i] = this->taken; }
    // After the last splat that a ray reached.
    void finish(int64_t tile, int64_t i, int64_t tile_end) {
        std::fill(store_.blocks() + i, store_.blocks() + tile_end, uint64_t(0));
        store_.set_tile(tile, lost_ ? nullptr : first_);
        room_.at = lost_ ? first_ : this->at;
    }

  private:
    void make_room() {
        const int64_t used = lost_ ? 0 : this->at - first_;
        T* chunk = lost_ || used + TILE * TILE > store_.chunk_numbers() ? nullptr : store_.new_chunk();
        if (!chunk) {
            lost_ = true;
            this->at = sink_;
            return;
        }
        if (used) std::memcpy(chunk, first_, size_t(used) * sizeof(T));
        first_ = chunk;
        this->at = chunk + used;
        room_.end = chunk + store_.chunk_numbers();
    }
    AlphaStore<T>& store_;
    Room<T>& room_;
    T* first_;
    bool lost_ = false;
    alignas(64) T sink_[TILE * TILE];
};

// The alphas of one tile, rendered again if they were not kept.
template <class T> class TileAlphas {
  public:
    TileAlphas(const Linearization<T>& lin, const Tile<T>& tile, int64_t index) : blocks_(lin.alphas.blocks()), alphas_(lin.alphas.tile(index)) {
        if (!alphas_) render(tile);
    }
    const T* begin() const { return alphas_; }
    uint64_t blocks(int64_t i) const { return blocks_[i]; }

  private:
    struct Again : AlphaPen<T> {
        DIFF3R_INLINE void begin() {}
        DIFF3R_INLINE void end(int64_t) {}
    };
    void render(const Tile<T>& tile) {
        int64_t registers = 1;  // one is written before it is known that nobody takes it
        for (int64_t i = tile.begin; i < tile.end; ++i) registers += __builtin_popcountll(blocks_[i]);
        again_.allocate(registers * Pack<T>::lanes);
        Again keep;
        keep.at = again_.get();
        keep.taken = 0;
        Plane<T> transmittance;
        march(tile, transmittance, keep, [](int, const Splat<T>&, const Pack<T>&) {});
        alphas_ = again_.get();
    }
    const uint64_t* blocks_;
    const T* alphas_;
    Buffer<T> again_;
};

}  // namespace diff3r
