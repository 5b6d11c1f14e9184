// Per-splat Gram matrices chained to the Gaussians' own parameters: Pᵀ G P with P the derivative of a splat's nine
// numbers with respect to mean, covariance, opacity and the constant colour coefficients.
#include "parallel.h"
#include "splat_cotangent.h"

namespace diff3r {
namespace {

constexpr int CORE = 13;      // mean 3, covariance 6, opacity, colour 3
constexpr int MOVES = 9;      // mean and covariance: the columns that move more than one number of a splat
constexpr int GEOMETRY = 6;   // x, y, a, b, c, opacity

// Index of dx^i dy^j in the order of GramSums::add_moments.
constexpr int monomial(int i, int j) { return (i + j) * (i + j + 1) / 2 + j; }

// The derivative of ln(alpha) with respect to x, y, a, b, c, opacity as a polynomial 1, dx, dy, dx², dx dy, dy².
template <class T> struct Polynomials {
    Pack<T> of[GEOMETRY][6];
    DIFF3R_INLINE Polynomials(const Projection<Pack<T>>& p, const Pack<T>& opacity) {
        for (auto& row : of)
            for (auto& entry : row) entry = Pack<T>(T(0));
        of[0][1] = p.a, of[0][2] = p.b;
        of[1][1] = p.b, of[1][2] = p.c;
        of[2][3] = Pack<T>(T(-0.5));
        of[3][4] = Pack<T>(T(-1));
        of[4][5] = Pack<T>(T(-0.5));
        of[5][0] = select(opacity > Pack<T>(T(0)), T(1) / opacity, Pack<T>(T(0)));
    }
};

// geometry[6][6] and cross[6][3] from the sums over pixels.
template <class T>
DIFF3R_INLINE void splat_gram(const Polynomials<T>& polynomials, const Pack<T>* sums, Pack<T> (*geometry)[GEOMETRY], Pack<T> (*cross)[3]) {
    static const int power_x[6] = {0, 1, 0, 2, 1, 0}, power_y[6] = {0, 0, 1, 0, 1, 2};
    // Which monomials each polynomial has.
    static const int begin[GEOMETRY] = {1, 1, 3, 4, 5, 0}, end[GEOMETRY] = {3, 3, 4, 5, 6, 1};
    for (int r = 0; r < GEOMETRY; ++r) {
        for (int q = 0; q <= r; ++q) {
            Pack<T> total(T(0));
            for (int i = begin[r]; i < end[r]; ++i)
                for (int j = begin[q]; j < end[q]; ++j)
                    total += polynomials.of[r][i] * polynomials.of[q][j] *
                             sums[monomial(power_x[i] + power_x[j], power_y[i] + power_y[j])];
            geometry[r][q] = geometry[q][r] = total;
        }
        for (int c = 0; c < 3; ++c) {
            cross[r][c] = Pack<T>(T(0));
            for (int i = begin[r]; i < end[r]; ++i) cross[r][c] += polynomials.of[r][i] * sums[15 + 6 * c + i];
        }
    }
}

// The block of each Gaussian of a pack; the lower triangle until it is mirrored.
template <class T> struct Core {
    Pack<T> entry[padded<T>(CORE * CORE)];
    DIFF3R_INLINE Pack<T>* operator[](int row) { return entry + row * CORE; }
    DIFF3R_INLINE void clear() {
        for (int i = 0; i < CORE; ++i)
            for (int j = 0; j <= i; ++j) (*this)[i][j] = Pack<T>(T(0));
    }
    DIFF3R_INLINE void mirror() {
        for (int i = 0; i < CORE; ++i)
            for (int j = 0; j < i; ++j) (*this)[j][i] = (*this)[i][j];
    }
};

template <class T> struct Job {
    const Linearization<T>& lin;
    const T* slots;
    int64_t n, at;  // first Gaussian, over all scenes and over all images
    int count;
};

// Adds one image's share to core (lower triangle) and rest.
template <class T>
void pull_pack(const Job<T>& job, const Camera<Pack<T>>& camera, const PackMask<T>& drawn, Core<T>& core, Pack<T>* rest) {
    using P = Pack<T>;
    const Scene<T>& scene = job.lin.scene;
    const int bases = int(scene.bases);
    P mean[3], covariance[6], sums[padded<T>(GRAM_NUMBERS)], lit[3];
    load_vector3(scene.means, job.n, job.count, mean);
    load_symmetric(scene.covariances, job.n, job.count, covariance);
    P opacity = load_strided(scene.opacities + job.n, 1, job.count);
    keep_drawn(drawn, mean, 3);
    keep_drawn(drawn, covariance, 6);
    keep_drawn(drawn, &opacity, 1);
    gather_slots<T, GRAM_NUMBERS>(job.lin, job.slots, job.at, job.count, sums);
    load_lit(job.lin, job.at, job.count, lit);
    Projection<P> p;
    project(mean, covariance, camera, p);
    keep_drawn(drawn, p);
    P geometry[GEOMETRY][GEOMETRY], cross[GEOMETRY][3];
    splat_gram(Polynomials<T>(p, opacity), sums, geometry, cross);

    // Rows x, y, a, b, c of the derivative, one transposed product each, and the three colours through the direction.
    P rows[SPLAT_NUMBERS][MOVES];
    for (int r = 0; r < 5; ++r) {
        P seed[5];
        for (int j = 0; j < 5; ++j) seed[j] = P(T(j == r));
        ProjectionCotangent<P> back{};
        project_transposed(mean, camera, p, seed[0], seed[1], seed[2], seed[3], seed[4], false, back);
        for (int j = 0; j < 3; ++j) rows[r][j] = back.mean[j];
        // An off-diagonal number moves two entries of the matrix.
        for (int j = 0; j < 6; ++j) rows[r][3 + j] = (j == 0 || j == 3 || j == 5) ? back.covariance[j] : T(2) * back.covariance[j];
    }
    P offset[3], direction[3], basis[MAX_BASES], gradient[MAX_BASES][3];
    offset_from_camera(mean, camera, offset);
    keep_drawn(drawn, offset, 3);
    const P inverse_length = normalize(offset, direction);
    harmonic_basis_with_gradient(bases, direction, basis, gradient);
    P coefficients[padded<T>(3 * MAX_BASES)];
    if (bases > 1) load_coefficients(scene, scene.harmonics, job.n, job.count, coefficients);
    for (int c = 0; c < 3; ++c) {
        P turn[3] = {P(T(0)), P(T(0)), P(T(0))};
        for (int k = 1; k < bases; ++k) {
            for (int j = 0; j < 3; ++j) turn[j] += coefficients[c * bases + k] * gradient[k][j];
        }
        normalize_transposed(direction, inverse_length, turn, rows[6 + c]);
        for (int j = 0; j < 3; ++j) rows[6 + c][j] = lit[c] * rows[6 + c][j];
        keep_drawn(drawn, rows[6 + c], 3);
        for (int j = 3; j < MOVES; ++j) rows[6 + c][j] = P(T(0));
        for (int r = 0; r < GEOMETRY; ++r) cross[r][c] = lit[c] * cross[r][c];
    }
    const P light = sums[GRAM_NUMBERS - 1];

    // G P for the moving columns, then Pᵀ of it; opacity and colour coefficients are single entries of P.
    for (int j = 0; j < MOVES; ++j) {
        P shape[GEOMETRY], color[3];
        for (int r = 0; r < GEOMETRY; ++r) {
            shape[r] = geometry[r][0] * rows[0][j];
            for (int q = 1; q < 5; ++q) shape[r] += geometry[r][q] * rows[q][j];
            for (int c = 0; c < 3 && j < 3; ++c) shape[r] += cross[r][c] * rows[6 + c][j];
        }
        for (int c = 0; c < 3; ++c) {
            color[c] = light * rows[6 + c][j];
            for (int q = 0; q < 5; ++q) color[c] += cross[q][c] * rows[q][j];
        }
        for (int i = 0; i <= j; ++i) {
            P total = rows[0][i] * shape[0];
            for (int q = 1; q < 5; ++q) total += rows[q][i] * shape[q];
            for (int c = 0; c < 3 && i < 3; ++c) total += rows[6 + c][i] * color[c];
            core[j][i] += total;
        }
        core[9][j] += shape[5];
        for (int c = 0; c < 3; ++c) core[10 + c][j] += basis[0] * (lit[c] * color[c]);
    }
    core[9][9] += geometry[5][5];
    for (int c = 0; c < 3; ++c) {
        core[10 + c][9] += basis[0] * cross[5][c];
        core[10 + c][10 + c] += basis[0] * basis[0] * (lit[c] * light);
        for (int k = 1; k < bases; ++k) rest[c * (bases - 1) + k - 1] += basis[k] * basis[k] * (lit[c] * light);
    }
}

}  // namespace

template <class T> void pull_gram(const Linearization<T>& lin, const T* slots, T* core_out, T* rest_out, int threads) {
    using P = Pack<T>;
    const Scene<T>& scene = lin.scene;
    const int64_t tasks = pack_tasks<T>(scene.gaussians), rests = 3 * (scene.bases - 1);
    parallel_for(scene.batch * tasks, lin.gaussian_threads(threads), [&](int64_t task, int) {
        const int64_t batch = task / tasks;
        for_each_pack<T>(task % tasks, scene.gaussians, [&](int64_t first, int count) {
            Core<T> core;
            P rest[padded<T>(3 * MAX_BASES)];
            core.clear();
            for (int64_t k = 0; k < rests; ++k) rest[k] = P(T(0));
            for (int64_t view = 0; view < scene.views; ++view) {
                const int64_t image = batch * scene.views + view;
                PackMask<T> drawn;
                if (!load_drawn(lin.tile_counts.get() + image * scene.gaussians, first, count, drawn)) continue;
                Camera<P> camera;
                load_camera(scene, image, camera);
                pull_pack(Job<T>{lin, slots, batch * scene.gaussians + first, image * scene.gaussians + first, count}, camera, drawn, core, rest);
            }
            const int64_t n = batch * scene.gaussians + first;
            core.mirror();
            stream_rows<CORE * CORE>(core.entry, core_out + n * CORE * CORE, count);
            store_rows(rest, int(rests), rest_out + n * rests, rests, count);
        });
        finish_streaming();
    });
}

template void pull_gram(const Linearization<float>&, const float*, float*, float*, int);
template void pull_gram(const Linearization<double>&, const double*, double*, double*, int);

}  // namespace diff3r
