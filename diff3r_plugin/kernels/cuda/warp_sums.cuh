// Sums of many numbers over the lanes of a warp at once.
#pragma once

#include "device.h"

namespace diff3r {

// v holds COUNT numbers (a power of two, at most 32) in each of 32 lanes. Returns to lane l the sum over all lanes of
// number l / (32 / COUNT). Each step halves the numbers that a lane still carries, by swapping the half that it gives
// up for its partner's half that it keeps: COUNT + 1 shuffles or so in place of 5 COUNT. (Written as a recursion, so
// that every index is a constant and v stays in registers.)
template <int COUNT, int WIDTH = WARP / 2, class T> __device__ __forceinline__ T warp_sums(T* v) {
    static_assert(COUNT >= 1 && COUNT <= WARP && (COUNT & (COUNT - 1)) == 0, "a power of two");
    if constexpr (WIDTH == 0) {
        return v[0];
    } else if constexpr (COUNT == 1) {
        v[0] = v[0] + __shfl_xor_sync(EVERY_LANE, v[0], WIDTH);
        return warp_sums<1, WIDTH / 2>(v);
    } else {
        constexpr int HALF = COUNT / 2;
        const bool upper = (threadIdx.x & WIDTH) != 0;
        DIFF3R_UNROLL
        for (int i = 0; i < HALF; ++i) {
            const T given = upper ? v[i] : v[i + HALF];
            const T kept = upper ? v[i + HALF] : v[i];
            v[i] = kept + __shfl_xor_sync(EVERY_LANE, given, WIDTH);
        }
        return warp_sums<HALF, WIDTH / 2>(v);
    }
}

// Adds the sums over the warp of `numbers` numbers in v (padded with zeros to COUNT) to out[0], out[1], ...: one atomic
// addition a number and warp, side by side.
template <int COUNT, class T, class Out> __device__ __forceinline__ void add_warp_sums(T* v, int numbers, Out* out) {
    const T sum = warp_sums<COUNT>(v);
    constexpr int LANES = WARP / COUNT;
    const int lane = int(threadIdx.x) % WARP;
    if (lane % LANES == 0 && lane / LANES < numbers) atomicAdd(out + lane / LANES, Out(sum));
}

}  // namespace diff3r
