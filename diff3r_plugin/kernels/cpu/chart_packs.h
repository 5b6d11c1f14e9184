// Packs of Gaussians in terms of θ: tangents from it, cotangents to it.
#pragma once

#include "gaussian_packs.h"
#include "math/charts.h"

namespace diff3r {

// A pack of Gaussians of one scene.
struct PackOfScene {
    int64_t scene, first;  // the first Gaussian, within its scene
    int count;
};

// A Gaussian's numbers or their tangents.
template <class T> struct GaussianNumbers {
    Pack<T> mean[3], covariance[6], opacity, harmonics[padded<T>(3 * MAX_BASES)];
};

// A group's numbers of a pack in an array shaped like θ; a group that does not move has none, and is zero.
template <class T>
DIFF3R_INLINE void load_group(const Chart<T>& chart, const T* array, int64_t group, int size, const PackOfScene& at, int64_t scenes, Pack<T>* out) {
    if (group < 0) return zero(out, size);
    const int64_t start = at.scene * chart.unknowns + group + at.first * size;
    load_rows(array + start, size, size, at.count, scenes * chart.unknowns - start, out);
}

template <class T> DIFF3R_INLINE void load_anchor(const Chart<T>& chart, const Scene<T>& scene, const PackOfScene& at, Pack<T>* out) {
    const int64_t start = (at.scene * scene.gaussians + at.first) * ANCHOR_NUMBERS;
    load_rows(chart.anchors + start, ANCHOR_NUMBERS, ANCHOR_NUMBERS, at.count, scene.batch * scene.gaussians * ANCHOR_NUMBERS - start, out);
}

// The chart of a pack at θ.
template <class T> struct LocalPack {
    Pack<T> anchor[padded<T>(ANCHOR_NUMBERS)], opacity_slope;
    LocalCovariance<Pack<T>> covariance;

    DIFF3R_INLINE LocalPack(const Chart<T>& chart, const Scene<T>& scene, const PackOfScene& at) {
        Pack<T> theta[padded<T>(6)];
        load_anchor(chart, scene, at, anchor);
        load_group(chart, chart.theta, chart.covariance, 6, at, scene.batch, theta);
        covariance.set(chart.kind, anchor, theta);
        opacity_slope = diff3r::opacity_slope(movable(), load_strided(scene.opacities + at.scene * scene.gaussians + at.first, 1, at.count));
    }
    DIFF3R_INLINE const Pack<T>& movable() const { return anchor[0]; }
    DIFF3R_INLINE const Pack<T>& size() const { return anchor[1]; }
};

// Tangents of Gaussians as a caller gives them.
template <class T> struct GivenTangent {
    VectorView<T> vector;
    const T* cameras() const { return vector.world_to_camera; }
    DIFF3R_INLINE void load(const Scene<T>& scene, const PackOfScene& at, GaussianNumbers<T>& out) const {
        const int64_t n = at.scene * scene.gaussians + at.first;
        load_vector3<T>(vector.means, n, at.count, out.mean);
        load_symmetric<T>(scene, vector.covariances, n, at.count, out.covariance);
        out.opacity = load_strided<T>(vector.opacities + n, 1, at.count);
        load_coefficients<T>(scene, vector.harmonics, n, at.count, out.harmonics);
    }
};

// Tangents of Gaussians for a tangent of θ.
template <class T> struct ChartTangent {
    Chart<T> chart;
    const T* tangent;     // [B, P]
    const T* of_cameras;  // [B, V, 4, 4], or null
    const T* cameras() const { return of_cameras; }
    DIFF3R_INLINE void load(const Scene<T>& scene, const PackOfScene& at, GaussianNumbers<T>& out) const {
        const LocalPack<T> local(chart, scene, at);
        Pack<T> theta[padded<T>(6)], rest[padded<T>(3 * MAX_BASES)];
        load_group(chart, tangent, chart.means, 3, at, scene.batch, theta);
        for (int j = 0; j < 3; ++j) out.mean[j] = local.size() * theta[j];
        load_group(chart, tangent, chart.covariance, 6, at, scene.batch, theta);
        if (chart.covariance < 0)
            zero(out.covariance, 6);
        else
            local.covariance.jvp(theta, out.covariance);
        load_group(chart, tangent, chart.opacity, 1, at, scene.batch, theta);
        out.opacity = local.opacity_slope * theta[0];
        const int rests = scene.bases - 1;
        load_group(chart, tangent, chart.sh_dc, 3, at, scene.batch, theta);
        load_group(chart, tangent, chart.sh_rest, 3 * rests, at, scene.batch, rest);
        for (int c = 0; c < 3; ++c) {
            out.harmonics[c * scene.bases] = local.movable() * theta[c];
            for (int k = 0; k < rests; ++k) out.harmonics[c * scene.bases + 1 + k] = local.movable() * rest[c * rests + k];
        }
    }
};

// Where numbers or cotangents of Gaussians go that a caller wants as such; covariances and harmonics may be null.
template <class T> struct GivenCotangent {
    VectorView<T> vector;
    T* cameras() const { return vector.world_to_camera; }
    DIFF3R_INLINE void store(const Scene<T>& scene, const PackOfScene& at, GaussianNumbers<T>& sums) const {
        const int64_t n = at.scene * scene.gaussians + at.first;
        store_rows(sums.mean, 3, vector.means + 3 * n, 3, at.count);
        if (vector.covariances) {
            constexpr int entries[9] = {0, 1, 2, 1, 3, 4, 2, 4, 5};
            Pack<T> full[padded<T>(9)];
            for (int j = 0; j < 9; ++j) full[j] = sums.covariance[entries[j]];
            store_rows(full, 9, vector.covariances + 9 * n, 9, at.count);
        }
        store_strided(sums.opacity, vector.opacities + n, 1, at.count);
        if (vector.harmonics) store_rows(sums.harmonics, 3 * scene.bases, vector.harmonics + 3 * scene.bases * n, 3 * scene.bases, at.count);
    }
};

// Cotangents as gradients by θ, [B, P]; plus diagonal (vector - center) where these are given, center perhaps not.
template <class T> struct ChartCotangent {
    Chart<T> chart;
    T* out;
    T* of_cameras;                        // [B, V, 4, 4], or null
    const T *diagonal, *vector, *center;  // [B, P] each, or null
    T* cameras() const { return of_cameras; }

    DIFF3R_INLINE void store(const Scene<T>& scene, const PackOfScene& at, GaussianNumbers<T>& sums) const {
        const LocalPack<T> local(chart, scene, at);
        Pack<T> gradient[padded<T>(3 * MAX_BASES)];
        for (int j = 0; j < 3; ++j) gradient[j] = local.size() * sums.mean[j];
        store_group(chart.means, 3, scene, at, gradient);
        local.covariance.vjp(sums.covariance, gradient);
        store_group(chart.covariance, 6, scene, at, gradient);
        gradient[0] = local.opacity_slope * sums.opacity;
        store_group(chart.opacity, 1, scene, at, gradient);
        for (int c = 0; c < 3; ++c) gradient[c] = local.movable() * sums.harmonics[c * scene.bases];
        store_group(chart.sh_dc, 3, scene, at, gradient);
        const int rests = scene.bases - 1;
        for (int c = 0; c < 3; ++c)
            for (int k = 0; k < rests; ++k) gradient[c * rests + k] = local.movable() * sums.harmonics[c * scene.bases + 1 + k];
        store_group(chart.sh_rest, 3 * rests, scene, at, gradient);
    }

    // Overwrites `gradient`.
    DIFF3R_INLINE void store_group(int64_t group, int size, const Scene<T>& scene, const PackOfScene& at, Pack<T>* gradient) const {
        if (group < 0 || size == 0) return;
        const int64_t start = at.scene * chart.unknowns + group + at.first * size;
        if (!diagonal) return store_rows(gradient, size, out + start, size, at.count);
        // What is added has the form of θ, number by number, so it need not be turned into packs.
        alignas(64) T rows[Pack<T>::lanes * 3 * MAX_BASES];
        store_rows(gradient, size, rows, size, at.count);
        const int numbers = size * at.count;
        const T *weights = diagonal + start, *moved = vector + start;
        prefetch_rows(weights, size);
        prefetch_rows(moved, size);
        prefetch_rows(out + start, size);
        if (center)
            for (int k = 0; k < numbers; ++k) out[start + k] = rows[k] + weights[k] * (moved[k] - center[start + k]);
        else
            for (int k = 0; k < numbers; ++k) out[start + k] = rows[k] + weights[k] * moved[k];
    }
};

}  // namespace diff3r
