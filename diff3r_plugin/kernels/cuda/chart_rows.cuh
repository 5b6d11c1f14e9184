// Rows of a block of Gaussians in terms of θ: tangents from it, cotangents to it; and the same as a caller gives them.
#pragma once

#include "gaussian_block.cuh"
#include "math/charts.h"

namespace diff3r {

// Calls body(size, first unknown, where a number of the group stands in a row) for each group of θ; the first unknown of a
// group that does not move is -1.
template <int BASES, class T, class Body> __device__ __forceinline__ void for_each_group(const Chart<T>& chart, const Body& body) {
    body(Bases<3>(), chart.means, [](int j) { return j; });
    body(Bases<6>(), chart.covariance, [](int j) { return Row<BASES>::covariance + j; });
    body(Bases<1>(), chart.opacity, [](int) { return Row<BASES>::opacity; });
    body(Bases<3>(), chart.sh_dc, [](int j) { return Row<BASES>::constant(j); });
    if constexpr (BASES > 1) body(Bases<3 * (BASES - 1)>(), chart.sh_rest, [](int j) { return Row<BASES>::rest(j); });
}

// The chart of this thread's Gaussian at θ.
template <class T> struct LocalGaussian {
    T movable, size, opacity_slope;
    LocalCovariance<T> covariance;

    __device__ __forceinline__ LocalGaussian(const Chart<T>& chart, const DeviceScene<T>& scene, const GaussianBlock<T>& block) {
        T anchor[ANCHOR_NUMBERS], theta[6];
        for (int j = 0; j < ANCHOR_NUMBERS; ++j) anchor[j] = chart.anchors[ANCHOR_NUMBERS * block.n + j];
        const T* own = chart.theta + block.scene * chart.unknowns + chart.covariance + 6 * block.within;
        for (int j = 0; j < 6; ++j) theta[j] = chart.covariance < 0 ? T(0) : own[j];
        movable = anchor[0], size = anchor[1];
        covariance.set(chart.kind, anchor, theta);
        opacity_slope = diff3r::opacity_slope(movable, scene.opacities[block.n]);
    }
};

// Tangents of Gaussians as a caller gives them.
template <class T> struct GivenTangent {
    VectorView<T> vector;

    __device__ __forceinline__ const T* cameras() const { return vector.world_to_camera; }
    // Fills the rows; all threads of the block must call this.
    template <int BASES> __device__ __forceinline__ void load(const DeviceScene<T>&, const GaussianBlock<T>& block, T* rows) const {
        if (!block.mine) return;
        T* row = rows + Row<BASES>::stride * int(threadIdx.x);
        for (int j = 0; j < 3; ++j) row[j] = vector.means[3 * block.n + j];
        load_symmetric<T>(vector.covariances, block.n, row + Row<BASES>::covariance);
        row[Row<BASES>::opacity] = vector.opacities[block.n];
        for (int k = 0; k < 3 * BASES; ++k) row[Row<BASES>::harmonics + k] = vector.harmonics[3 * BASES * block.n + k];
    }
};

// Tangents of Gaussians for a tangent of θ.
template <class T> struct ChartTangent {
    Chart<T> chart;
    const T* tangent;     // [B, P]
    const T* of_cameras;  // [B, V, 4, 4], or null

    __device__ __forceinline__ const T* cameras() const { return of_cameras; }
    template <int BASES> __device__ __forceinline__ void load(const DeviceScene<T>& scene, const GaussianBlock<T>& block, T* rows) const {
        for_each_group<BASES>(chart, [&](auto size, int64_t group, auto place) {
            constexpr int SIZE = decltype(size)::count;
            const T* part = tangent + block.scene * chart.unknowns + group + SIZE * block.first;
            for (int i = int(threadIdx.x); i < SIZE * block.count; i += GAUSSIAN_THREADS)
                rows[Row<BASES>::stride * (i / SIZE) + place(i % SIZE)] = group < 0 ? T(0) : part[i];
        });
        __syncthreads();
        if (!block.mine) return;
        const LocalGaussian<T> local(chart, scene, block);
        T* row = rows + Row<BASES>::stride * int(threadIdx.x);
        for (int j = 0; j < 3; ++j) row[j] *= local.size;
        T moved[6], turned[6];
        for (int j = 0; j < 6; ++j) moved[j] = row[Row<BASES>::covariance + j];
        local.covariance.jvp(moved, turned);
        for (int j = 0; j < 6; ++j) row[Row<BASES>::covariance + j] = chart.covariance < 0 ? T(0) : turned[j];
        row[Row<BASES>::opacity] *= local.opacity_slope;
        for (int k = 0; k < 3 * BASES; ++k) row[Row<BASES>::harmonics + k] *= local.movable;
    }
};

// Where cotangents of Gaussians go that a caller wants as such.
template <class T> struct GivenCotangent {
    VectorView<T> vector;

    // Takes the rows; all threads of the block must call this. Off the diagonal, covariances hold half of the derivative.
    template <int BASES> __device__ __forceinline__ void store(const DeviceScene<T>&, const GaussianBlock<T>& block, T* rows) const {
        if (!block.mine) return;
        const T* row = rows + Row<BASES>::stride * int(threadIdx.x);
        for (int j = 0; j < 3; ++j) vector.means[3 * block.n + j] = row[j];
        int entry = Row<BASES>::covariance;
        for (int i = 0; i < 3; ++i)
            for (int j = i; j < 3; ++j, ++entry)
                vector.covariances[9 * block.n + 3 * i + j] = vector.covariances[9 * block.n + 3 * j + i] = row[entry];
        vector.opacities[block.n] = row[Row<BASES>::opacity];
        for (int k = 0; k < 3 * BASES; ++k) vector.harmonics[3 * BASES * block.n + k] = row[Row<BASES>::harmonics + k];
    }
};

// Cotangents as gradients by θ, [B, P]; plus diagonal (vector - center) where these are given, center perhaps not.
template <class T> struct ChartCotangent {
    Chart<T> chart;
    T* out;
    const T *diagonal, *vector, *center;  // [B, P] each, or null

    template <int BASES> __device__ __forceinline__ void store(const DeviceScene<T>& scene, const GaussianBlock<T>& block, T* rows) const {
        if (block.mine) {
            const LocalGaussian<T> local(chart, scene, block);
            T* row = rows + Row<BASES>::stride * int(threadIdx.x);
            for (int j = 0; j < 3; ++j) row[j] *= local.size;
            T full[6], gradient[6];
            for (int j = 0; j < 6; ++j) full[j] = row[Row<BASES>::covariance + j];
            local.covariance.vjp(full, gradient);
            for (int j = 0; j < 6; ++j) row[Row<BASES>::covariance + j] = gradient[j];
            row[Row<BASES>::opacity] *= local.opacity_slope;
            for (int k = 0; k < 3 * BASES; ++k) row[Row<BASES>::harmonics + k] *= local.movable;
        }
        write<BASES>(block, rows);
    }

    // Rows that are in terms of θ already.
    template <int BASES> __device__ __forceinline__ void write(const GaussianBlock<T>& block, const T* rows) const {
        __syncthreads();
        for_each_group<BASES>(chart, [&](auto size, int64_t group, auto place) {
            constexpr int SIZE = decltype(size)::count;
            if (group < 0) return;
            const int64_t start = block.scene * chart.unknowns + group + SIZE * block.first;
            for (int i = int(threadIdx.x); i < SIZE * block.count; i += GAUSSIAN_THREADS) {
                T gradient = rows[Row<BASES>::stride * (i / SIZE) + place(i % SIZE)];
                if (diagonal) gradient += diagonal[start + i] * (center ? vector[start + i] - center[start + i] : vector[start + i]);
                out[start + i] = gradient;
            }
        });
    }
};

}  // namespace diff3r
