// One thread a Gaussian: which Gaussians a block of threads has, and the rows of numbers that it holds of them in shared
// memory. Rows are read and written together with neighbors' threads, so that what lies side by side in memory travels
// side by side; within the block each thread works on its own row.
#pragma once

#include "warp_sums.cuh"

namespace diff3r {

constexpr int GAUSSIAN_THREADS = 64;  // rows of 25 basis functions for so many stay below 48 kB

// Blocks do not straddle scenes, so that a warp adds up for one camera.
template <class T> struct GaussianBlock {
    int64_t scene, first;  // the first Gaussian, within its scene
    int count;
    bool mine;             // this thread has one
    int64_t within, n;     // it, within its scene and within all scenes; the first of the block where it has none

    __device__ __forceinline__ explicit GaussianBlock(int64_t gaussians) {
        const int64_t per_scene = (gaussians + GAUSSIAN_THREADS - 1) / GAUSSIAN_THREADS;
        scene = int64_t(blockIdx.x) / per_scene;
        first = int64_t(blockIdx.x) % per_scene * GAUSSIAN_THREADS;
        count = int(gaussians - first < GAUSSIAN_THREADS ? gaussians - first : GAUSSIAN_THREADS);
        mine = int(threadIdx.x) < count;
        within = first + (mine ? int64_t(threadIdx.x) : 0);
        n = scene * gaussians + within;
    }
};

template <class T> int64_t gaussian_blocks(const Inputs<T>& scene) { return scene.batch * blocks_for(scene.gaussians, GAUSSIAN_THREADS); }

// A Gaussian's numbers, their tangents or cotangents in a row: mean 3, covariance 6, opacity, harmonics [3, BASES].
template <int BASES> struct Row {
    static constexpr int covariance = 3, opacity = 9, harmonics = 10;
    static constexpr int size = 10 + 3 * BASES;
    static constexpr int stride = size | 1;  // odd: the threads of a warp meet in no bank
    // Where the numbers of SH groups stand.
    __device__ static __forceinline__ int constant(int channel) { return harmonics + channel * BASES; }
    __device__ static __forceinline__ int rest(int number) {
        constexpr int RESTS = BASES > 1 ? BASES - 1 : 1;
        return harmonics + number / RESTS * BASES + 1 + number % RESTS;
    }
};

}  // namespace diff3r
