// One pack of Gaussians in one image on the way back: what the gradient slots add up to, and the projection again.
#pragma once

#include "gaussian_packs.h"
#include "rows.h"

namespace diff3r {

constexpr int SLOTS_AHEAD = 32;

// Adds up `numbers` values per slot over the slots of each Gaussian, in order; zero for those that are not rendered.
// Rows are read a whole pack at a time, so slots are followed by SLOT_PADDING numbers that may be read.
template <class T, int numbers>
DIFF3R_INLINE void gather_slots(const Linearization<T>& lin, const T* slots, int64_t at, int count, Pack<T>* out) {
    constexpr int lanes = Pack<T>::lanes, packs = padded<T>(numbers) / lanes;
    for (int l = 0; l < lanes; ++l) {
        Pack<T> row[packs];
        for (int j = 0; j < packs; ++j) row[j] = Pack<T>(T(0));
        if (l < count) {
            const T* slot = slots + int64_t(lin.slot_starts[at + l]) * numbers;
            __builtin_prefetch(slot + SLOTS_AHEAD * numbers);
            for (int32_t k = lin.tile_counts[at + l]; k > 0; --k, slot += numbers)
                for (int j = 0; j < packs; ++j) row[j] += Pack<T>::load(slot + j * lanes);
        }
        for (int j = 0; j < packs; ++j) out[j * lanes + l] = row[j];
    }
    for (int j = 0; j < packs; ++j) transpose<1>(out + j * lanes);
}

// One pack of Gaussians of a scene, whichever image sees it.
template <class T> struct GaussianPack {
    Pack<T> mean[3], covariance[6], opacity, coefficients[padded<T>(3 * MAX_BASES)];

    // n: the first Gaussian, counted over all scenes.
    DIFF3R_INLINE GaussianPack(const Scene<T>& scene, int64_t n, int count) {
        load_vector3(scene.means, n, count, mean);
        load_symmetric(scene, scene.covariances, n, count, covariance);
        opacity = load_strided(scene.opacities + n, 1, count);
        if (scene.bases > 1) load_coefficients(scene, scene.harmonics, n, count, coefficients);
    }
};

// What the way back from splats reads of a pack in one image, and its projection; zero where nothing is rendered.
template <class T> struct SeenPack {
    const GaussianPack<T>& gaussians;
    Pack<T> mean[3], covariance[6], opacity, lit[3];
    PackMask<T> visible;
    int bases;
    Projection<Pack<T>> projection;

    // at: the first Gaussian, counted over all images.
    DIFF3R_INLINE SeenPack(const Linearization<T>& lin, const GaussianPack<T>& given, int64_t at, int count, const Camera<Pack<T>>& camera,
                           const PackMask<T>& visible_)
        : gaussians(given), visible(visible_), bases(lin.scene.bases) {
        visible_part(visible, given.mean, 3, mean);
        visible_part(visible, given.covariance, 6, covariance);
        visible_part(visible, &given.opacity, 1, &opacity);
        load_lit(lin, at, count, lit);
        project(mean, covariance, camera, projection);
        keep_visible(visible, projection);
    }
    DIFF3R_INLINE Seen<Pack<T>> seen() const { return {bases, mean, covariance, opacity, gaussians.coefficients, lit, visible}; }
};

}  // namespace diff3r
