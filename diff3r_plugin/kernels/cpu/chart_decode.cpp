// The scene at θ.
#include "chart_packs.h"
#include "parallel.h"

namespace diff3r {

template <class T> void chart_decode(const Scene<T>& reference, const Chart<T>& chart, const VectorView<T>& out, int threads) {
    using P = Pack<T>;
    const int64_t tasks = pack_tasks<T>(reference.gaussians);
    const GivenCotangent<T> store{out};
    const int bases = reference.bases, rests = bases - 1;
    parallel_for(reference.batch * tasks, threads_for(reference.batch * reference.gaussians, 1 << 12, threads), [&](int64_t task, int) {
        const int64_t batch = task / tasks;
        for_each_pack<T>(task % tasks, reference.gaussians, [&](int64_t first, int count) {
            const PackOfScene at{batch, first, count};
            const int64_t n = batch * reference.gaussians + first;
            GaussianNumbers<T> scene;
            P anchor[padded<T>(ANCHOR_NUMBERS)], theta[padded<T>(6)], rest[padded<T>(3 * MAX_BASES)], covariance[6];
            load_anchor(chart, reference, at, anchor);
            load_vector3(reference.means, n, count, scene.mean);
            load_group(chart, chart.theta, chart.means, 3, at, reference.batch, theta);
            for (int j = 0; j < 3; ++j) scene.mean[j] += anchor[1] * theta[j];
            load_symmetric(reference, reference.covariances, n, count, covariance);
            if (chart.covariance < 0) {
                for (int j = 0; j < 6; ++j) scene.covariance[j] = covariance[j];
            } else {
                load_group(chart, chart.theta, chart.covariance, 6, at, reference.batch, theta);
                covariance_at(chart.kind, anchor, theta, covariance, scene.covariance);
            }
            load_group(chart, chart.theta, chart.opacity, 1, at, reference.batch, theta);
            scene.opacity = opacity_at(anchor[0], load_strided(reference.opacities + n, 1, count), theta[0]);
            load_coefficients(reference, reference.harmonics, n, count, scene.harmonics);
            load_group(chart, chart.theta, chart.sh_dc, 3, at, reference.batch, theta);
            load_group(chart, chart.theta, chart.sh_rest, 3 * rests, at, reference.batch, rest);
            for (int c = 0; c < 3; ++c) {
                scene.harmonics[c * bases] += anchor[0] * theta[c];
                for (int k = 0; k < rests; ++k) scene.harmonics[c * bases + 1 + k] += anchor[0] * rest[c * rests + k];
            }
            store.store(reference, at, scene);
        });
    });
}

template void chart_decode(const Scene<float>&, const Chart<float>&, const VectorView<float>&, int);
template void chart_decode(const Scene<double>&, const Chart<double>&, const VectorView<double>&, int);

}  // namespace diff3r
