// One pack of Gaussians in one image on the way back: what the gradient slots add up to, and the projection again.
#pragma once

#include "gaussian_packs.h"
#include "rows.h"

namespace diff3r {

// Adds up `numbers` values per slot over the slots of each Gaussian, in order; zero for those that are not drawn.
// Rows are read a whole pack at a time, so slots are followed by SLOT_PADDING numbers that may be read.
template <class T, int numbers>
DIFF3R_INLINE void gather_slots(const Linearization<T>& lin, const T* slots, int64_t at, int count, Pack<T>* out) {
    constexpr int lanes = Pack<T>::lanes, packs = padded<T>(numbers) / lanes;
    for (int l = 0; l < lanes; ++l) {
        Pack<T> row[packs];
        for (int j = 0; j < packs; ++j) row[j] = Pack<T>(T(0));
        if (l < count) {
            const T* slot = slots + int64_t(lin.slot_starts[at + l]) * numbers;
            for (int32_t k = lin.tile_counts[at + l]; k > 0; --k, slot += numbers)
                for (int j = 0; j < packs; ++j) row[j] += Pack<T>::load(slot + j * lanes);
        }
        for (int j = 0; j < packs; ++j) out[j * lanes + l] = row[j];
    }
    for (int j = 0; j < packs; ++j) transpose<1>(out + j * lanes);
}

// Channels that are clamped at zero have no derivative: 1 where lit.
template <class T> DIFF3R_INLINE void load_lit(const Linearization<T>& lin, int64_t at, int count, Pack<T>* lit) {
    for (int c = 0; c < 3; ++c) {
        lit[c] = Pack<T>(T(0));
        for (int l = 0; l < count; ++l)
            if (lin.tile_counts[at + l]) lit[c].v[l] = T(lin.splats[at + l].lit >> c & 1);
    }
}

}  // namespace diff3r
