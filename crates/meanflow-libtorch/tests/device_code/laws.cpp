// The device code, run on the CPU, against its formulas in f64. Prints a line for every result that is too far off.
#include "threads.h"

#include "quad.cu"

#include "attention.cu"
#include "columns.cu"
#include "fused.cu"

#include <cstdio>
#include <random>

using Numbers = std::vector<float>;
using Exact = std::vector<double>;

constexpr int B = 3, N = 5, PARTS = 2;
constexpr size_t ROWS = B * N, ALL = ROWS * WIDTH;
int failures = 0;

// Of the largest number; sums of up to WIDTH + N terms in f32, or one rounding to bf16.
constexpr double F32 = 2e-6, BF16 = 1.0 / 256;

Numbers normal(size_t count, float mean = 0) {
  static std::mt19937 generator(1);
  std::normal_distribution<float> distribution(mean, 1);
  Numbers numbers(count);
  for (auto& number : numbers) number = distribution(generator);
  return numbers;
}

float number(float x) { return x; }
float number(bf16 x) { return widened(x); }

template <typename T>
void compare(const char* name, const Exact& exact, const std::vector<T>& found, double tolerance) {
  double largest = 0, apart = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    largest = std::max(largest, std::abs(exact[i]));
    const double difference = std::abs(exact[i] - number(found[i]));
    apart = difference <= 1e30 ? std::max(apart, difference) : 1e30;
  }
  if (apart <= tolerance * largest) return;
  ++failures;
  std::printf("%s: %.2e of the largest number, allowed %.2e\n", name, apart / largest, tolerance);
}

// The parts of every sample added up.
Numbers added(const Numbers& sums) {
  Numbers result(B * WIDTH);
  for (int sample = 0; sample < B; ++sample)
    for (int part = 0; part < PARTS; ++part)
      for (int i = 0; i < WIDTH; ++i) result[sample * WIDTH + i] += sums[(sample * PARTS + part) * WIDTH + i];
  return result;
}

struct Case {
  Numbers x = normal(ALL, 2), g = normal(ALL), dx = normal(ALL), y = normal(ALL), dy = normal(ALL);
  // Parts of one tensor each, so that samples are apart.
  Numbers packed = normal(B * 3 * WIDTH), dpacked = normal(B * 2 * WIDTH);
  Modulation<float> shift{packed.data(), 3 * WIDTH}, scale{packed.data() + WIDTH, 3 * WIDTH};
  Modulation<float> gate{packed.data() + 2 * WIDTH, 3 * WIDTH};
  Modulation<float> dshift{dpacked.data(), 2 * WIDTH}, dscale{dpacked.data() + WIDTH, 2 * WIDTH};
  Numbers means = Numbers(ROWS), rstds = Numbers(ROWS);

  template <typename Body>
  void each(Body body) const {
    for (size_t row = 0; row < ROWS; ++row)
      for (int i = 0; i < WIDTH; ++i) body(row * WIDTH + i, row, row / N, i);
  }
};

constexpr double EPSILON = 1e-6;

// d along the normalisation's Jacobian, times (1 + scale), where `scaled` says when.
struct Norm {
  Exact normal = Exact(ALL), moved = Exact(ALL);
  Norm(const Case& c, const Exact& d) {
    for (size_t row = 0; row < ROWS; ++row) {
      double mean = 0, variance = 0, plain = 0, along = 0;
      const float* x = &c.x[row * WIDTH];
      for (int i = 0; i < WIDTH; ++i) mean += x[i] / double(WIDTH);
      for (int i = 0; i < WIDTH; ++i) variance += (x[i] - mean) * (x[i] - mean) / WIDTH;
      const double rstd = 1 / std::sqrt(variance + EPSILON);
      for (int i = 0; i < WIDTH; ++i) normal[row * WIDTH + i] = (x[i] - mean) * rstd;
      for (int i = 0; i < WIDTH; ++i) {
        plain += d[row * WIDTH + i] / WIDTH;
        along += d[row * WIDTH + i] * normal[row * WIDTH + i] / WIDTH;
      }
      for (int i = 0; i < WIDTH; ++i) {
        const size_t at = row * WIDTH + i;
        moved[at] = (d[at] - plain - normal[at] * along) * rstd;
      }
    }
  }
};

template <typename Low>
void values(Case& c, const char* name, double tolerance, void (*norm)(long long, int, const float*, Modulation<float>,
            Modulation<float>, float, Low*, float*, float*), void (*tangent)(long long, int, const float*, const float*,
            Modulation<float>, Modulation<float>, Modulation<float>, const float*, const float*, Low*)) {
  const Norm n(c, Exact(c.dx.begin(), c.dx.end()));
  Exact value(ALL), along(ALL), still(ALL);
  c.each([&](size_t at, size_t, int sample, int i) {
    const double a = 1 + c.scale.of(sample)[i];
    value[at] = n.normal[at] * a + c.shift.of(sample)[i];
    still[at] = n.moved[at] * a;
    along[at] = still[at] + n.normal[at] * c.dscale.of(sample)[i] + c.dshift.of(sample)[i];
  });
  std::vector<Low> found(ALL);
  launch(4, 4, [&] { norm(ROWS, N, c.x.data(), c.shift, c.scale, EPSILON, found.data(), c.means.data(), c.rstds.data()); });
  compare(name, value, found, tolerance);
  launch(4, 4, [&] {
    tangent(ROWS, N, c.dx.data(), c.x.data(), c.dshift, c.dscale, c.scale, c.means.data(), c.rstds.data(), found.data());
  });
  compare("tangent of the norm", along, found, tolerance);
  const Modulation<float> none{nullptr, 0};
  launch(4, 4, [&] {
    tangent(ROWS, N, c.dx.data(), c.x.data(), none, none, c.scale, c.means.data(), c.rstds.data(), found.data());
  });
  compare("tangent of the norm where only x moves", still, found, tolerance);
}

void gradients_of_norm(const Case& c) {
  Exact up(ALL), gshift(B * WIDTH), gscale(B * WIDTH);
  c.each([&](size_t at, size_t, int sample, int i) { up[at] = c.g[at] * (1.0 + c.scale.of(sample)[i]); });
  const Norm n(c, up);
  c.each([&](size_t at, size_t, int sample, int i) {
    gshift[sample * WIDTH + i] += c.g[at];
    gscale[sample * WIDTH + i] += c.g[at] * n.normal[at];
  });
  Numbers gx(ALL), sum_shift(B * PARTS * WIDTH), sum_scale(B * PARTS * WIDTH);
  launch(B * PARTS, 3, [&] {
    norm_modulate_backward_f32(N, PARTS, c.g.data(), c.x.data(), c.scale, c.means.data(), c.rstds.data(), gx.data(),
                               sum_shift.data(), sum_scale.data());
  });
  compare("gradient of x", n.moved, gx, F32);
  compare("gradient of the shift", gshift, added(sum_shift), F32);
  compare("gradient of the scale", gscale, added(sum_scale), F32);
}

void gated(const Case& c) {
  Exact value(ALL), gy(ALL), ggate(B * WIDTH), along(ALL);
  c.each([&](size_t at, size_t, int sample, int i) {
    const double gate = c.gate.of(sample)[i];
    value[at] = c.x[at] + gate * c.y[at];
    gy[at] = c.g[at] * gate;
    ggate[sample * WIDTH + i] += double(c.g[at]) * c.y[at];
    along[at] = c.dx[at] + double(c.dshift.of(sample)[i]) * c.y[at] + gate * c.dy[at];
  });
  Numbers found(ALL), sums(B * PARTS * WIDTH);
  launch(4, 4, [&] { add_gated_f32(ROWS, N, c.x.data(), c.gate, c.y.data(), found.data()); });
  compare("gated sum", value, found, F32);
  launch(B * PARTS, 3, [&] {
    add_gated_backward_f32(N, PARTS, c.g.data(), c.gate, c.y.data(), found.data(), sums.data());
  });
  compare("gradient of the branch", gy, found, F32);
  compare("gradient of the gate", ggate, added(sums), F32);
  launch(4, 4, [&] {
    add_gated_tangent_f32(ROWS, N, c.dx.data(), c.gate, c.dshift, c.y.data(), c.dy.data(), found.data());
  });
  compare("tangent of the gated sum", along, found, F32);
}

// Tests that rounding is to nearest, ties to even, and keeps what is no number.
void rounding() {
  const std::pair<float, unsigned short> cases[] = {
      {1.0f, 0x3f80}, {-0.0f, 0x8000}, {__uint_as_float(0x3f808000), 0x3f80}, {__uint_as_float(0x3f818000), 0x3f82},
      {__uint_as_float(0x3f808001), 0x3f81}, {INFINITY, 0x7f80}, {__uint_as_float(0x7f7fffff), 0x7f80}};
  for (const auto& [value, bits] : cases) {
    if (rounded(value).bits == bits) continue;
    ++failures;
    std::printf("%g was rounded to %04x, expected %04x\n", value, rounded(value).bits, bits);
  }
  if (!std::isnan(widened(rounded(__uint_as_float(0x7f800001))))) std::printf("NaN was lost\n"), ++failures;
}

void columns() {
  constexpr long long rows = 37;
  const Numbers x = normal(rows * WIDTH);
  std::vector<bf16> low(rows * WIDTH);
  Exact exact(WIDTH);
  for (long long at = 0; at < rows * WIDTH; ++at) {
    low[at] = rounded(x[at]);
    exact[at % WIDTH] += widened(low[at]);
  }
  for (int parts : {1, 3}) {
    const unsigned across = (WIDTH / 4 + 31) / 32;
    Numbers sums(parts * WIDTH), whole(WIDTH);
    launch(across * parts, 2, [&] { column_sums_bf16(rows, WIDTH, parts, low.data(), sums.data()); });
    for (int at = 0; at < parts * WIDTH; ++at) whole[at % WIDTH] += sums[at];
    compare("sums of columns", exact, whole, F32);
  }
}

void averages() {
  const Numbers p = normal(301), start = normal(301);
  for (const float weight : {0.0f, 0.25f, 0.9f, 1.0f}) {
    Numbers e = start;
    Exact exact(301);
    for (size_t i = 0; i < e.size(); ++i) exact[i] = start[i] + double(weight) * (p[i] - start[i]);
    const bool yes = true, no = false;
    launch(2, 2, [&] { ema_update(301, e.data(), p.data(), &weight, &yes); });
    compare("average", exact, e, F32);
    launch(2, 2, [&] { ema_update(301, e.data(), p.data(), &weight, &no); });
    compare("average of a step that is left out", exact, e, F32);
  }
}

// Probabilities and their changes are rounded to bf16 before they meet the values.
void attention(int tokens) {
  constexpr int heads = 2, samples = 2, width = heads * HEAD;
  const double scale = 1 / std::sqrt(double(HEAD));
  const size_t count = size_t(samples) * tokens * 3 * width;
  std::vector<bf16> packed(count), dpacked(count), out(count / 3);
  for (auto* numbers : {&packed, &dpacked}) {
    const Numbers drawn = normal(count);
    for (size_t i = 0; i < count; ++i) (*numbers)[i] = rounded(drawn[i]);
  }
  Exact exact(count / 3);
  const auto at = [&](const std::vector<bf16>& from, int sample, int token, int part, int head, int i) {
    return double(widened(from[((size_t(sample) * tokens + token) * 3 + part) * width + head * HEAD + i]));
  };
  for (int sample = 0; sample < samples; ++sample)
    for (int head = 0; head < heads; ++head)
      for (int row = 0; row < tokens; ++row) {
        Exact p(tokens), dp(tokens);
        double sum = 0, mean = 0;
        for (int column = 0; column < tokens; ++column) {
          for (int i = 0; i < HEAD; ++i) {
            const double q = at(packed, sample, row, 0, head, i), k = at(packed, sample, column, 1, head, i);
            p[column] += scale * q * k;
            dp[column] += scale * (at(dpacked, sample, row, 0, head, i) * k + q * at(dpacked, sample, column, 1, head, i));
          }
          sum += p[column] = std::exp(p[column]);
        }
        for (int column = 0; column < tokens; ++column) mean += (p[column] /= sum) * dp[column];
        for (int i = 0; i < HEAD; ++i)
          for (int column = 0; column < tokens; ++column) {
            exact[(size_t(sample) * tokens + row) * width + head * HEAD + i] +=
                p[column] * at(dpacked, sample, column, 2, head, i) +
                p[column] * (dp[column] - mean) * at(packed, sample, column, 2, head, i);
          }
      }
  launch(samples * heads, 8, [&] {
    attention_tangent_bf16(heads, tokens, float(scale), packed.data(), dpacked.data(), out.data());
  });
  compare("tangent of attention", exact, out, BF16);
}

int main() {
  Case c;
  values<float>(c, "norm", F32, norm_modulate_f32, norm_modulate_tangent_f32);
  values<bf16>(c, "norm in bf16", BF16, norm_modulate_bf16, norm_modulate_tangent_bf16);
  gradients_of_norm(c);
  gated(c);
  rounding();
  columns();
  averages();
  for (int tokens : {1, 5, 64}) attention(tokens);
  return failures == 0 ? 0 : 1;
}
