// Cotangents of splats back to Gaussians or to θ, and to cameras, one thread a Gaussian; views are added up in order, so
// nothing but the cameras' sums is shared between threads.
#pragma once

#include "chart_rows.cuh"

namespace diff3r {

// What arrives of each splat, [I, N, 9].
enum Arriving : int64_t {
    COTANGENTS = 0,  // of x, y, a, b, c, opacity, red, green, blue
    MOMENTS = 1,     // six moments of the cotangent of ln(alpha) (footprint_cotangent) and three colors
};

template <class T, int BASES, class Cotangent>
__device__ __forceinline__ void pull_cotangent(const DeviceScene<T>& scene, const T* splats, int64_t arriving, const Cotangent& out, double* camera_sums) {
    __shared__ T rows[Row<BASES>::stride * GAUSSIAN_THREADS];
    const GaussianBlock<T> block(scene.gaussians);
    T* row = rows + Row<BASES>::stride * int(threadIdx.x);
    const WarpAdder<CAMERA_NUMBERS> camera_adder;
    T mean[3], covariance[6], opacity(0);
    zero(mean, 3);
    zero(covariance, 6);
    for (int k = 0; k < 3 * BASES; ++k) row[Row<BASES>::harmonics + k] = T(0);
    for (int64_t view = 0; view < scene.views; ++view) {
        const int64_t image = block.scene * scene.views + view, at = image * scene.gaussians + block.within;
        const int flags = block.mine ? scene.flags[at] : 0;
        T camera[CAMERA_NUMBERS];
        zero(camera, CAMERA_NUMBERS);
        if (flags & VISIBLE) {
            SeenGaussian<T> one;
            const Seen<T> seen = one.template load<BASES>(scene, block.n, image, flags);
            T given[SPLAT_NUMBERS], splat[SPLAT_NUMBERS];
            for (int k = 0; k < SPLAT_NUMBERS; ++k) given[k] = splats[SPLAT_NUMBERS * at + k];
            if (arriving == MOMENTS)
                footprint_cotangent(one.projection.a, one.projection.b, one.projection.c, given, splat);
            else
                for (int k = 0; k < 6; ++k) splat[k] = k == 5 ? scene.splat_opacities[at] * given[k] : given[k];
            for (int c = 0; c < 3; ++c) splat[6 + c] = given[6 + c];
            const GaussianSums<T> sums{mean, covariance, &opacity, row + Row<BASES>::harmonics};
            if (camera_sums)  // one call with a pointer that may be null would keep `camera` out of registers
                gaussian_vjp(seen, one.camera, one.projection, splat, sums, camera);
            else
                gaussian_vjp(seen, one.camera, one.projection, splat, sums, static_cast<T*>(nullptr));
        }
        if (camera_sums) camera_adder.add(camera, camera_sums + CAMERA_NUMBERS * image);
    }
    for (int j = 0; j < 3; ++j) row[j] = mean[j];
    for (int j = 0; j < 6; ++j) row[Row<BASES>::covariance + j] = covariance[j];
    row[Row<BASES>::opacity] = opacity;
    out.template store<BASES>(scene, block, rows);
}

}  // namespace diff3r
