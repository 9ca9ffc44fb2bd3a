#include <pybind11/stl.h>

#include "dirichlet_input.hpp"
#include "rlmba/fused_score.hpp"

namespace rlmba::bindings {
namespace {

template <class T>
std::int64_t fused_score(const std::vector<Array<T>>& x, int evidence,
                         const Array<double>& temperatures, const Array<double>& weights,
                         const std::optional<Array<bool>>& present,
                         const std::optional<Array<T>>& distances, double beta, Array<T>& score,
                         Array<T>& uncertainty, Array<T>& difficulty,
                         Array<T>& normalized_uncertainty, Array<T>& normalized_distance) {
  const DirichletArguments<T> arguments(x, evidence, temperatures, weights, present);
  const std::int64_t n = arguments.rows();
  const std::int64_t m = arguments.modalities();
  const T* d = nullptr;
  if (distances) {
    const auto view = vector_view(*distances);
    if (view.size != n) throw std::invalid_argument("expected N distances");
    d = view.data;
  }
  const FusedScoreOutput<T> out{output(score, n), output(uncertainty, n * m), output(difficulty, n),
                                output(normalized_uncertainty, n * m),
                                output(normalized_distance, n)};
  py::gil_scoped_release release;
  return RLMBA_DISPATCH(fused_score, arguments.input(), d, beta, out);
}

template <class T>
void score_within(Array<T>& uncertainty, const Array<double>& weights,
                  const std::optional<Array<bool>>& present,
                  const std::optional<Array<T>>& distances, double beta, Array<T>& limits,
                  Array<T>& score, Array<T>& normalized_uncertainty,
                  Array<T>& normalized_distance) {
  const auto u = matrix_view(uncertainty);
  const std::int64_t n = u.rows;
  const std::int64_t m = u.cols;
  DirichletInput<T> in{nullptr, m, Evidence::alpha, nullptr, weights.data(), 0, nullptr};
  if (vector_view(weights).size != m) throw std::invalid_argument("expected M weights");
  if (present) {
    if (!(present->flags() & py::array::c_style) || present->size() != n * m) {
      throw std::invalid_argument("expected present as a contiguous [N, M] array");
    }
    in.present = reinterpret_cast<const std::uint8_t*>(present->data());
  }
  const T* d = nullptr;
  if (distances) {
    const auto view = vector_view(*distances);
    if (view.size != n) throw std::invalid_argument("expected N distances");
    d = view.data;
  }
  const T* within = output(limits, 2 * (m + 1));
  const FusedScoreOutput<T> out{output(score, n), output(uncertainty, n * m), nullptr,
                                output(normalized_uncertainty, n * m),
                                output(normalized_distance, n)};
  py::gil_scoped_release release;
  RLMBA_DISPATCH(score_within, in, n, d, beta, within, out);
}

template <class T>
void define(py::module_& m, const char* name) {
  m.def(name, &fused_score<T>, py::arg("x"), py::arg("evidence"),
        py::arg("temperatures").noconvert(), py::arg("weights").noconvert(),
        py::arg("present").noconvert(), py::arg("distances").noconvert(), py::arg("beta"),
        py::arg("score").noconvert(), py::arg("uncertainty").noconvert(),
        py::arg("difficulty").noconvert(), py::arg("normalized_uncertainty").noconvert(),
        py::arg("normalized_distance").noconvert());
  m.def("score_within", &score_within<T>, py::arg("uncertainty").noconvert(),
        py::arg("weights").noconvert(), py::arg("present").noconvert(),
        py::arg("distances").noconvert(), py::arg("beta"), py::arg("limits").noconvert(),
        py::arg("score").noconvert(), py::arg("normalized_uncertainty").noconvert(),
        py::arg("normalized_distance").noconvert());
}

}  // namespace

void register_fused_score(py::module_& m) {
  define<float>(m, "fused_score_f32");
  define<double>(m, "fused_score_f64");
}

}  // namespace rlmba::bindings
