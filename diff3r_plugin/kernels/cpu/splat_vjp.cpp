// Cotangents of splats back to Gaussians and cameras.
#include "parallel.h"
#include "splat_cotangent.h"

namespace diff3r {
namespace {

template <class T> struct Sums {
    Pack<T> mean[3], covariance[6], opacity, harmonics[padded<T>(3 * MAX_BASES)];
    GaussianSums<Pack<T>> all() { return {mean, covariance, &opacity, harmonics}; }
};

template <class T> struct Pulled {
    const Linearization<T>& lin;
    const T* slots;
    int64_t n;   // first Gaussian, counted over all scenes
    int64_t at;  // the same, counted over all images
    int count;
};

// Adds the share of one image to `sums`, and to `camera_sums` (where not null) what [R|t] gets.
template <class T>
void pull_pack(const Pulled<T>& job, const Camera<Pack<T>>& camera, const PackMask<T>& drawn, Sums<T>& sums, Pack<T>* camera_sums) {
    using P = Pack<T>;
    const Scene<T>& scene = job.lin.scene;
    const int bases = int(scene.bases);
    P mean[3], covariance[6], slot[padded<T>(SPLAT_NUMBERS)], splat[SPLAT_NUMBERS], lit[3], coefficients[padded<T>(3 * MAX_BASES)];
    load_vector3(scene.means, job.n, job.count, mean);
    load_symmetric(scene.covariances, job.n, job.count, covariance);
    if (bases > 1) load_coefficients(scene, scene.harmonics, job.n, job.count, coefficients);
    keep_drawn(drawn, mean, 3);
    keep_drawn(drawn, covariance, 6);
    gather_slots<T, SPLAT_NUMBERS>(job.lin, job.slots, job.at, job.count, slot);
    load_lit(job.lin, job.at, job.count, lit);
    const P opacity = load_strided(scene.opacities + job.n, 1, job.count);

    Projection<P> p;
    project(mean, covariance, camera, p);
    keep_drawn(drawn, p);
    footprint_cotangent(p.a, p.b, p.c, slot, splat);
    for (int c = 0; c < 3; ++c) splat[6 + c] = slot[6 + c];
    const Seen<P> seen{bases, mean, covariance, opacity, coefficients, lit, drawn};
    gaussian_vjp(seen, camera, p, splat, sums.all(), camera_sums);
}

template <class T> void store_sums(Sums<T>& sums, int64_t n, int count, int64_t bases, const VectorView<T>& out) {
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

template <class T> void splat_vjp(const Linearization<T>& lin, const T* slots, const VectorView<T>& out, int threads) {
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
            Sums<T> sums;
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
                const Pulled<T> job{lin, slots, batch * scene.gaussians + first, image * scene.gaussians + first, count};
                pull_pack(job, camera, drawn, sums, with_camera ? camera_sums : nullptr);
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

template void splat_vjp(const Linearization<float>&, const float*, const VectorView<float>&, int);
template void splat_vjp(const Linearization<double>&, const double*, const VectorView<double>&, int);

}  // namespace diff3r
