// One pack of Gaussians in one image on the way back: what the gradient slots add up to, and the projection again.
#pragma once

#include "gaussian_packs.h"
#include "rows.h"

namespace diff3r {

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
            for (int32_t k = lin.tile_counts[at + l]; k > 0; --k, slot += numbers)
                for (int j = 0; j < packs; ++j) row[j] += Pack<T>::load(slot + j * lanes);
        }
        for (int j = 0; j < packs; ++j) out[j * lanes + l] = row[j];
    }
    for (int j = 0; j < packs; ++j) transpose<1>(out + j * lanes);
}

// One pack in one image: where it stands in the arrays.
struct PackOfImage {
    int64_t n;   // first Gaussian, counted over all scenes
    int64_t at;  // the same, counted over all images
    int count;
};

// What the way back from splats reads of the Gaussians, and their projection; zero where nothing is rendered.
template <class T> struct SeenPack {
    Pack<T> mean[3], covariance[6], opacity, lit[3], coefficients[padded<T>(3 * MAX_BASES)];
    PackMask<T> visible;
    int bases;
    Projection<Pack<T>> projection;

    DIFF3R_INLINE SeenPack(const Linearization<T>& lin, const PackOfImage& job, const Camera<Pack<T>>& camera, const PackMask<T>& visible_)
        : visible(visible_), bases(lin.scene.bases) {
        const Scene<T>& scene = lin.scene;
        load_vector3(scene.means, job.n, job.count, mean);
        load_symmetric(scene.covariances, job.n, job.count, covariance);
        opacity = load_strided(scene.opacities + job.n, 1, job.count);
        if (bases > 1) load_coefficients(scene, scene.harmonics, job.n, job.count, coefficients);
        keep_visible(visible, mean, 3);
        keep_visible(visible, covariance, 6);
        keep_visible(visible, &opacity, 1);
        load_lit(lin, job.at, job.count, lit);
        project(mean, covariance, camera, projection);
        keep_visible(visible, projection);
    }
    DIFF3R_INLINE Seen<Pack<T>> seen() const { return {bases, mean, covariance, opacity, coefficients, lit, visible}; }
};

}  // namespace diff3r
