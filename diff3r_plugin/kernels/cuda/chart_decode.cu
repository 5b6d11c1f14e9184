// The scene at θ.
#include "chart_rows.cuh"

namespace diff3r {

constexpr int DECODE_THREADS = 128;

// Mean, covariance and opacity, one thread a Gaussian.
template <class T> __device__ __forceinline__ void chart_decode(const Inputs<T>& reference, const Chart<T>& chart, const VectorView<T>& out) {
    const int64_t n = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (n >= reference.batch * reference.gaussians) return;
    const int64_t scene = n / reference.gaussians, within = n % reference.gaussians;
    const T* theta = chart.theta + scene * chart.unknowns;
    T anchor[ANCHOR_NUMBERS];
    for (int j = 0; j < ANCHOR_NUMBERS; ++j) anchor[j] = chart.anchors[ANCHOR_NUMBERS * n + j];
    for (int j = 0; j < 3; ++j)
        out.means[3 * n + j] = reference.means[3 * n + j] + anchor[1] * (chart.means < 0 ? T(0) : theta[chart.means + 3 * within + j]);
    out.opacities[n] = opacity_at(anchor[0], reference.opacities[n], chart.opacity < 0 ? T(0) : theta[chart.opacity + within]);
    if (!out.covariances) return;
    T own[6], before[6], now[6];
    for (int j = 0; j < 6; ++j) own[j] = theta[chart.covariance + 6 * within + j];
    load_symmetric(reference.covariances, n, before);
    covariance_at(chart.kind, anchor, own, before, now);
    int entry = 0;
    for (int i = 0; i < 3; ++i)
        for (int j = i; j < 3; ++j, ++entry) out.covariances[9 * n + 3 * i + j] = out.covariances[9 * n + 3 * j + i] = now[entry];
}

// Harmonics, one thread a coefficient.
template <class T> __device__ __forceinline__ void chart_decode_harmonics(const Inputs<T>& reference, const Chart<T>& chart, T* out) {
    const int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x, numbers = 3 * int64_t(reference.bases);
    if (at >= reference.batch * reference.gaussians * numbers) return;
    const int64_t n = at / numbers, scene = n / reference.gaussians, within = n % reference.gaussians;
    const int64_t channel = at % numbers / reference.bases, k = at % reference.bases, rests = reference.bases - 1;
    const int64_t group = k == 0 ? chart.sh_dc : chart.sh_rest;
    const int64_t place = k == 0 ? 3 * within + channel : (3 * within + channel) * rests + k - 1;
    const T moved = group < 0 ? T(0) : chart.theta[scene * chart.unknowns + group + place];
    out[at] = reference.harmonics[at] + chart.anchors[ANCHOR_NUMBERS * n] * moved;
}

}  // namespace diff3r

DIFF3R_KERNEL(chart_decode, DECODE_THREADS, (Diff3rInputs reference, Diff3rChart chart, Diff3rVector out),
              (Inputs<T>(reference), Chart<T>(chart), VectorView<T>(out)))
DIFF3R_KERNEL(chart_decode_harmonics, DECODE_THREADS, (Diff3rInputs reference, Diff3rChart chart, T* out),
              (Inputs<T>(reference), Chart<T>(chart), out))
