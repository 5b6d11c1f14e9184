// Cotangents of splats back to Gaussians and cameras.
#include "parallel.h"
#include "splat_cotangent.h"

namespace diff3r {
namespace {

constexpr int CAMERA_NUMBERS = 12;  // [R|t], row by row

template <class T> struct GaussianSums {
    Pack<T> mean[3], covariance[6], opacity, harmonics[padded<T>(3 * MAX_BASES)];
};

template <class T> struct Pulled {
    const Linearization<T>& lin;
    const T* slots;
    int64_t n;      // first Gaussian, counted over all scenes
    int64_t at;     // the same, counted over all images
    int count;
    bool with_camera;
};

template <class T> DIFF3R_INLINE void zero(Pack<T>* numbers, int count) {
    for (int j = 0; j < count; ++j) numbers[j] = Pack<T>(T(0));
}

// Adds the share of one image to `sums`, and to `camera_sums` what [R|t] gets.
template <class T>
void pull_pack(const Pulled<T>& job, const Camera<Pack<T>>& camera, const PackMask<T>& drawn, GaussianSums<T>& sums, Pack<T>* camera_sums) {
    using P = Pack<T>;
    const Scene<T>& scene = job.lin.scene;
    const int bases = int(scene.bases);
    P mean[3], covariance[6], slot[padded<T>(SPLAT_NUMBERS)], splat[6], lit[3];
    load_vector3(scene.means, job.n, job.count, mean);
    load_symmetric(scene.covariances, job.n, job.count, covariance);
    keep_drawn(drawn, mean, 3);
    keep_drawn(drawn, covariance, 6);
    gather_slots<T, SPLAT_NUMBERS>(job.lin, job.slots, job.at, job.count, slot);
    load_lit(job.lin, job.at, job.count, lit);

    Projection<P> p;
    ProjectionCotangent<P> back{};
    project(mean, covariance, camera, p);
    keep_drawn(drawn, p);
    footprint_cotangent(p.a, p.b, p.c, slot, splat);
    project_transposed(mean, camera, p, splat[0], splat[1], splat[2], splat[3], splat[4], job.with_camera, back);
    P opacity = load_strided(scene.opacities + job.n, 1, job.count);
    sums.opacity += splat[5] / select(drawn, opacity, P(T(1)));
    for (int j = 0; j < 6; ++j) sums.covariance[j] += back.covariance[j];

    P color[3];
    for (int c = 0; c < 3; ++c) color[c] = lit[c] * slot[6 + c];
    if (bases == 1) {
        P basis;
        harmonic_basis(1, basis, basis, basis, &basis);
        for (int c = 0; c < 3; ++c) sums.harmonics[c] += color[c] * basis;
    } else {
        P offset[3], direction[3], basis[MAX_BASES], gradient[MAX_BASES][3], turn[3], from_offset[3];
        offset_from_camera(mean, camera, offset);
        keep_drawn(drawn, offset, 3);
        const P inverse_length = normalize(offset, direction);
        harmonic_basis_with_gradient(bases, direction, basis, gradient);
        zero(turn, 3);
        P coefficients[padded<T>(3 * MAX_BASES)];
        load_coefficients(scene, scene.harmonics, job.n, job.count, coefficients);
        for (int k = 0; k < bases; ++k) {
            P shared(T(0));
            for (int c = 0; c < 3; ++c) {
                sums.harmonics[c * bases + k] += color[c] * basis[k];
                if (k) shared += color[c] * coefficients[c * bases + k];
            }
            for (int j = 0; j < 3 && k; ++j) turn[j] += shared * gradient[k][j];
        }
        keep_drawn(drawn, turn, 3);
        normalize_transposed(direction, inverse_length, turn, from_offset);
        for (int j = 0; j < 3; ++j) back.mean[j] += from_offset[j];
        if (job.with_camera)  // offset = mean + Rᵀ t
            for (int i = 0; i < 3; ++i) {
                for (int j = 0; j < 3; ++j) back.rotation[3 * i + j] += camera.translation[i] * from_offset[j];
                back.translation[i] += dot3(camera.rotation + 3 * i, from_offset);
            }
    }
    for (int j = 0; j < 3; ++j) sums.mean[j] += back.mean[j];
    if (!job.with_camera) return;
    for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j) camera_sums[4 * i + j] += back.rotation[3 * i + j];
        camera_sums[4 * i + 3] += back.translation[i];
    }
}

template <class T> void store_sums(GaussianSums<T>& sums, int64_t n, int count, int64_t bases, const VectorView<T>& out) {
    for (int j = 0; j < 3; ++j) store_strided(sums.mean[j], out.means + 3 * n + j, 3, count);
    int entry = 0;
    for (int i = 0; i < 3; ++i)
        for (int j = i; j < 3; ++j, ++entry) {
            store_strided(sums.covariance[entry], out.covariances + 9 * n + 3 * i + j, 9, count);
            if (i != j) store_strided(sums.covariance[entry], out.covariances + 9 * n + 3 * j + i, 9, count);
        }
    store_strided(sums.opacity, out.opacities + n, 1, count);
    store_rows(sums.harmonics, int(3 * bases), out.harmonics + 3 * bases * n, 3 * bases, count);
}

}  // namespace

template <class T> void pull_cotangents(const Linearization<T>& lin, const T* slots, const VectorView<T>& out, int threads) {
    const Scene<T>& scene = lin.scene;
    const int64_t tasks = pack_tasks<T>(scene.gaussians), views = scene.views;
    const bool with_camera = out.world_to_camera != nullptr;
    // Cameras are shared by all Gaussians: one partial sum per task and view, added up in order at the end.
    Buffer<double> partial(with_camera ? scene.images() * tasks * CAMERA_NUMBERS : 0);
    parallel_for(scene.batch * tasks, lin.gaussian_threads(threads), [&](int64_t task, int) {
        const int64_t batch = task / tasks;
        double* camera_totals = with_camera ? partial.get() + task * views * CAMERA_NUMBERS : nullptr;
        if (with_camera) std::memset(camera_totals, 0, size_t(views) * CAMERA_NUMBERS * sizeof(double));
        for_each_pack<T>(task % tasks, scene.gaussians, [&](int64_t first, int count) {
            GaussianSums<T> sums;
            zero(sums.mean, 3);
            zero(sums.covariance, 6);
            sums.opacity = Pack<T>(T(0));
            zero(sums.harmonics, int(3 * scene.bases));
            for (int64_t view = 0; view < views; ++view) {
                const int64_t image = batch * views + view;
                PackMask<T> drawn;
                if (!load_drawn(lin.tile_counts.get() + image * scene.gaussians, first, count, drawn)) continue;
                Camera<Pack<T>> camera;
                load_camera(scene, image, camera);
                Pack<T> camera_sums[CAMERA_NUMBERS];
                zero(camera_sums, CAMERA_NUMBERS);
                const Pulled<T> job{lin, slots, batch * scene.gaussians + first, image * scene.gaussians + first, count, with_camera};
                pull_pack(job, camera, drawn, sums, camera_sums);
                for (int j = 0; j < CAMERA_NUMBERS && with_camera; ++j)
                    camera_totals[view * CAMERA_NUMBERS + j] += double(sum(camera_sums[j]));
            }
            store_sums(sums, batch * scene.gaussians + first, count, scene.bases, out);
        });
    });
    if (!with_camera) return;
    for (int64_t image = 0; image < scene.images(); ++image) {
        const int64_t batch = image / views, view = image % views;
        for (int j = 0; j < 16; ++j) {
            double total = 0;
            for (int64_t task = batch * tasks; task < (batch + 1) * tasks && j < CAMERA_NUMBERS; ++task)
                total += partial[(task * views + view) * CAMERA_NUMBERS + j];
            out.world_to_camera[16 * image + j] = T(total);
        }
    }
}

template void pull_cotangents(const Linearization<float>&, const float*, const VectorView<float>&, int);
template void pull_cotangents(const Linearization<double>&, const double*, const VectorView<double>&, int);

}  // namespace diff3r
