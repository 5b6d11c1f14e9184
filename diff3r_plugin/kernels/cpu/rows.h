// Between rows in memory (all numbers of one Gaussian or slot side by side) and packs (one number of many Gaussians):
// register transposes, and the sums of the lanes of many packs at once.
#pragma once

#include <utility>

#include "pack.h"

namespace diff3r {

template <class T> using LaneSequence = std::make_integer_sequence<int, Pack<T>::lanes>;

// Lanes by number: 0, 1, ... from a, `lanes`, `lanes` + 1, ... from b.
template <class T, int... I> DIFF3R_INLINE Pack<T> shuffled(const Pack<T>& a, const Pack<T>& b, std::integer_sequence<int, I...>) {
#if defined(__clang__)
    return Pack<T>::of(__builtin_shufflevector(a.v, b.v, I...));
#else
    return Pack<T>::of(__builtin_shuffle(a.v, b.v, typename Lanes<T>::Bits{I...}));
#endif
}

// Lanes without bit `width` of their number from a and the others from b, taken `move_a` and `move_b` lanes away.
template <int width, int move_a, int move_b, class T, int... L>
DIFF3R_INLINE Pack<T> woven(const Pack<T>& a, const Pack<T>& b, std::integer_sequence<int, L...>) {
    return shuffled(a, b, std::integer_sequence<int, ((L & width) ? (L ^ move_b) + Pack<T>::lanes : (L ^ move_a))...>());
}

// Square of packs: number j of row i becomes number i of row j.
template <int width, class T> DIFF3R_INLINE void transpose(Pack<T>* v) {
    if constexpr (width < Pack<T>::lanes) {
        for (int i = 0; i < Pack<T>::lanes; ++i) {
            if (i & width) continue;
            const Pack<T> a = v[i], b = v[i + width];
            v[i] = woven<width, 0, width>(a, b, LaneSequence<T>());
            v[i + width] = woven<width, width, 0>(a, b, LaneSequence<T>());
        }
        transpose<2 * width>(v);
    }
}

// Pairs of packs are added so that lane l ends up with the sum of pack l; `left` packs are left at this step.
template <int width, int left, class T> DIFF3R_INLINE Pack<T> folded(Pack<T>* v) {
    if constexpr (width == Pack<T>::lanes) {
        return v[0];
    } else {
        constexpr int pairs = (left + 1) / 2;
        for (int i = 0; i < pairs; ++i) {
            const Pack<T> a = v[2 * i], b = 2 * i + 1 < left ? v[2 * i + 1] : a;
            v[i] = woven<width, 0, 0>(a, b, LaneSequence<T>()) + woven<width, width, width>(a, b, LaneSequence<T>());
        }
        return folded<2 * width, pairs>(v);
    }
}

// out[i] = sum of the lanes of v[i]; overwrites v. The order of the additions is fixed.
template <int count, class T> DIFF3R_INLINE void write_sums(Pack<T>* v, T* out) {
    constexpr int lanes = Pack<T>::lanes, now = count < lanes ? count : lanes;
    const Pack<T> sums = folded<1, now>(v);
    store_first(now, sums, out);
    if constexpr (count > lanes) write_sums<count - lanes>(v + lanes, out + lanes);
}

// What lane L takes when packs 0, 1, 2 hold three numbers a row one after the other: entry 3 L + j, from the first two
// packs and then from the third.
template <int j, class T, int... L>
DIFF3R_INLINE Pack<T> every_third(const Pack<T>* v, std::integer_sequence<int, L...>) {
    constexpr int two = 2 * Pack<T>::lanes;
    const Pack<T> low = shuffled(v[0], v[1], std::integer_sequence<int, (3 * L + j < two ? 3 * L + j : 0)...>());
    return shuffled(low, v[2], std::integer_sequence<int, (3 * L + j < two ? L : 3 * L + j - two + Pack<T>::lanes)...>());
}

// The reverse: pack r of the rows, whose entry e = r lanes + L is number e % 3 of row e / 3.
template <int r, class T, int... L>
DIFF3R_INLINE Pack<T> three_in_turn(const Pack<T>* v, std::integer_sequence<int, L...>) {
    constexpr int lanes = Pack<T>::lanes;
    const Pack<T> two = shuffled(
        v[0], v[1], std::integer_sequence<int, ((r * lanes + L) % 3 < 2 ? (r * lanes + L) % 3 * lanes + (r * lanes + L) / 3 : 0)...>());
    return shuffled(two, v[2], std::integer_sequence<int, ((r * lanes + L) % 3 < 2 ? L : lanes + (r * lanes + L) / 3)...>());
}

// A whole pack of rows of three numbers without gaps.
template <class T> DIFF3R_INLINE void load_triples(const T* p, Pack<T>* out) {
    Pack<T> rows[3];
    for (int r = 0; r < 3; ++r) rows[r] = Pack<T>::load(p + r * Pack<T>::lanes);
    out[0] = every_third<0>(rows, LaneSequence<T>());
    out[1] = every_third<1>(rows, LaneSequence<T>());
    out[2] = every_third<2>(rows, LaneSequence<T>());
}
template <class T> DIFF3R_INLINE void store_triples(const Pack<T>* in, T* p) {
    three_in_turn<0>(in, LaneSequence<T>()).store(p);
    three_in_turn<1>(in, LaneSequence<T>()).store(p + Pack<T>::lanes);
    three_in_turn<2>(in, LaneSequence<T>()).store(p + 2 * Pack<T>::lanes);
}

// Asks for the rows that a loop over packs will want in three turns.
template <class T> DIFF3R_INLINE void prefetch_rows(const T* p, int numbers) {
    for (int k = 0; k < numbers; ++k) __builtin_prefetch(p + (3 * numbers + k) * Pack<T>::lanes);
}

// Row l, `numbers` long, starts at p + l * stride; lanes from `count` on repeat the last row. With `readable` numbers
// from p on in the array, out[j] holds number j of all rows; out has room for `numbers` rounded up to whole packs.
template <class T> DIFF3R_INLINE void load_rows(const T* p, int numbers, int64_t stride, int count, int64_t readable, Pack<T>* out) {
    constexpr int lanes = Pack<T>::lanes;
    if (stride == numbers) prefetch_rows(p, numbers);
    if (numbers == 3 && stride == 3 && count == lanes) return load_triples(p, out);
    const int64_t reach = (count - 1) * stride + (numbers + lanes - 1) / lanes * lanes;
    if (numbers < 4 || reach > readable) {
        for (int j = 0; j < numbers; ++j) out[j] = load_strided(p + j, stride, count);
        return;
    }
    for (int j = 0; j < numbers; j += lanes) {
        for (int l = 0; l < lanes; ++l) out[j + l] = Pack<T>::load(p + (l < count ? l : count - 1) * stride + j);
        transpose<1>(out + j);
    }
}

// The reverse; overwrites `in`, which has room for `numbers` rounded up to whole packs.
template <class T> DIFF3R_INLINE void store_rows(Pack<T>* in, int numbers, T* p, int64_t stride, int count) {
    constexpr int lanes = Pack<T>::lanes;
    if (numbers == 3 && stride == 3 && count == lanes) return store_triples(in, p);
    if (numbers < 4) {
        for (int j = 0; j < numbers; ++j) store_strided(in[j], p + j, stride, count);
        return;
    }
    for (int j = 0; j < numbers; j += lanes) {
        transpose<1>(in + j);
        const int now = numbers - j < lanes ? numbers - j : lanes;
        for (int l = 0; l < count; ++l) store_first(now, in[j + l], p + l * stride + j);
    }
}

// Rows that follow each other without gaps, written past the caches: for results much larger than a cache, which would
// only be read in to be overwritten. Call finish_streaming() before another thread may look at them.
template <int numbers, class T> DIFF3R_INLINE void stream_rows(Pack<T>* in, T* p, int count) {
    alignas(64) T rows[Pack<T>::lanes * numbers];
    store_rows(in, numbers, rows, numbers, count);
    const size_t bytes = size_t(count) * numbers * sizeof(T);
#ifdef DIFF3R_MASK_REGISTERS
    if (reinterpret_cast<uintptr_t>(p) % 64 == 0 && bytes % 64 == 0) {
        for (size_t at = 0; at < bytes; at += 64)
            _mm512_stream_si512(reinterpret_cast<__m512i*>(reinterpret_cast<char*>(p) + at),
                                _mm512_load_si512(reinterpret_cast<char*>(rows) + at));
        return;
    }
#endif
    std::memcpy(p, rows, bytes);
}

DIFF3R_INLINE void finish_streaming() {
#ifdef DIFF3R_MASK_REGISTERS
    _mm_sfence();
#endif
}

// Room for `count` numbers in whole packs.
template <class T> constexpr int padded(int count) { return (count + Pack<T>::lanes - 1) / Pack<T>::lanes * Pack<T>::lanes; }

}  // namespace diff3r
