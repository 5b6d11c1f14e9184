// Sums of many numbers over the lanes of a warp at once.
#pragma once

#include "device.h"

namespace diff3r {

// v holds COUNT numbers (at most 32) in each of 32 lanes. Returns to every lane the sum over all lanes of one of them: of which,
// owned_number tells. Each step halves the numbers that a lane still carries, by swapping the half that it gives up for its
// partner's half that it keeps, and of an odd number of them adds the last one up on both sides: 12 shuffles for nine numbers in
// place of 45. (Written as a recursion, so that every index is a constant and v stays in registers.)
template <int COUNT, int WIDTH = WARP / 2, class T> __device__ __forceinline__ T warp_sums(T* v) {
    static_assert(COUNT >= 1 && COUNT <= 2 * WIDTH + (WIDTH == 0), "no more numbers than lanes");
    if constexpr (WIDTH == 0) {
        return v[0];
    } else {
        constexpr int HALF = COUNT / 2;
        const bool upper = (threadIdx.x & WIDTH) != 0;
        DIFF3R_UNROLL
        for (int i = 0; i < HALF; ++i) {
            const T given = upper ? v[i] : v[i + HALF];
            const T kept = upper ? v[i + HALF] : v[i];
            v[i] = kept + __shfl_xor_sync(EVERY_LANE, given, WIDTH);
        }
        if constexpr (COUNT % 2) v[HALF] = v[COUNT - 1] + __shfl_xor_sync(EVERY_LANE, v[COUNT - 1], WIDTH);
        return warp_sums<HALF + COUNT % 2, WIDTH / 2>(v);
    }
}

// Which number's sum warp_sums gave to this lane; -1 where another lane has the same one.
template <int COUNT, int WIDTH = WARP / 2> __device__ __forceinline__ int owned_number() {
    if constexpr (WIDTH == 0) {
        return 0;
    } else {
        constexpr int HALF = COUNT / 2;
        const bool upper = (threadIdx.x & WIDTH) != 0;
        const int left = owned_number<HALF + COUNT % 2, WIDTH / 2>();
        if (left < 0) return -1;
        if (left < HALF) return upper ? left + HALF : left;
        return upper ? -1 : COUNT - 1;
    }
}

// Adds sums over the warp to memory, time and again.
template <int COUNT> struct WarpAdder {
    int number;  // that this lane adds

    __device__ __forceinline__ WarpAdder() : number(kept_in_a_register(owned_number<COUNT>())) {}

    // The sums of COUNT numbers in v to out[0], out[1], ...: one atomic addition a number and warp, side by side.
    template <class T, class Out> __device__ __forceinline__ void add(T* v, Out* out) const {
        const T sum = warp_sums<COUNT>(v);
        if (number >= 0) atomicAdd(out + number, Out(sum));
    }
};

}  // namespace diff3r
