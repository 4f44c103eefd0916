// The operations of a piece of work, as libtorch's tracer sees them, written as text.
#include <torch/csrc/jit/frontend/tracer.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <iomanip>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "guarded.h"

namespace {

namespace tracer = torch::jit::tracer;

// A graph as lines of words, and the tensors that the words `#0`, `#1`, … stand for.
//
// A line is an operation with its arguments and its results: `aten::add %1 %2 i1 -> %3:6:2,4`. The first line has the inputs,
// the last one the outputs. `src/trace.rs` reads it.
struct Trace {
  explicit Trace(const torch::jit::Graph& graph) {
    words.precision(17);
    words << "inputs ->";
    for (const auto* input : graph.inputs()) result(*input);
    for (const auto* node : graph.nodes()) operation(*node);
    words << "\noutputs";
    for (const auto* output : graph.outputs()) argument(*output);
    text = words.str();
  }

  std::string text;
  std::vector<at::Tensor> constants;

 private:
  void operation(const torch::jit::Node& node) {
    const bool is_argument = node.kind() == c10::prim::Constant || node.kind() == c10::prim::ListConstruct;
    if (is_argument) return;
    TORCH_CHECK(node.blocks().empty(), "expected operations one after the other, got ", node.kind().toQualString());
    words << '\n' << node.kind().toQualString();
    for (const auto* input : node.inputs()) argument(*input);
    words << " ->";
    for (const auto* output : node.outputs()) result(*output);
  }

  void argument(const torch::jit::Value& value) {
    const auto* node = value.node();
    if (node->kind() == c10::prim::ListConstruct) {
      words << " [";
      for (const auto* input : node->inputs()) argument(*input);
      words << " ]";
    } else if (node->kind() == c10::prim::Constant) {
      const auto known = torch::jit::toIValue(&value);
      TORCH_CHECK(known.has_value(), "a constant without a value");
      constant(*known);
    } else {
      words << " %" << value.unique();
    }
  }

  void constant(const c10::IValue& value) {
    if (value.isTensor()) {
      words << " #" << constants.size();
      constants.push_back(value.toTensor().detach());
    } else if (value.isInt()) {
      words << " i" << value.toInt();
    } else if (value.isDouble()) {
      words << " f" << value.toDouble();
    } else if (value.isBool()) {
      words << " b" << value.toBool();
    } else if (value.isString()) {
      const auto& word = value.toStringRef();
      const bool is_word = std::all_of(word.begin(), word.end(), [](unsigned char c) { return std::isgraph(c); });
      TORCH_CHECK(is_word, "expected a word, got the text ", word);
      words << " s" << word;
    } else if (value.isList()) {
      words << " [";
      for (const c10::IValue& item : value.toListRef()) constant(item);
      words << " ]";
    } else if (value.isNone() || value.isDevice()) {
      words << " none";
    } else {
      TORCH_CHECK(false, "an argument of a kind that is not written: ", value.tagKind());
    }
  }

  // Tensors with their dtype and sizes; another result, such as a list, without.
  void result(const torch::jit::Value& value) {
    words << " %" << value.unique();
    const auto tensor = value.type()->cast<c10::TensorType>();
    if (!tensor || !tensor->scalarType()) return;
    const auto sizes = tensor->sizes().concrete_sizes();
    if (!sizes) return;
    words << ':' << static_cast<int>(*tensor->scalarType()) << ':';
    bool is_first = true;
    for (const int64_t side : *sizes) {
      if (!is_first) words << ',';
      words << side;
      is_first = false;
    }
  }

  std::ostringstream words;
};

// Ends the recording of this thread when it goes.
struct Abandon {
  Abandon() = default;
  Abandon(const Abandon&) = delete;
  Abandon& operator=(const Abandon&) = delete;
  ~Abandon() { tracer::abandon(); }
};

}  // namespace

// From here on this thread's operations are recorded; they are done all the same.
MF_EXPORT(mf_trace_begin, (const Handle* inputs, size_t count), {
  TORCH_CHECK(!tracer::isTracing(), "this thread records operations already");
  auto state = std::make_shared<tracer::TracingState>();
  for (size_t i = 0; i < count; ++i) {
    auto* value = state->graph->addInput();
    value->setType(c10::TensorType::create(*inputs[i]));
    state->setValue(*inputs[i], value);
  }
  state->force_outplace = true;
  tracer::setTracingState(std::move(state));
})

MF_EXPORT(mf_trace_abandon, (), { tracer::abandon(); })

// Ends the recording, also where it fails.
MF_EXPORT(mf_trace_end, (Trace** out, const Handle* outputs, size_t count), {
  TORCH_CHECK(tracer::isTracing(), "this thread records no operations");
  const auto state = tracer::getTracingState();
  {
    const Abandon at_the_end;
    for (size_t i = 0; i < count; ++i) state->graph->registerOutput(state->getOutput(*outputs[i], i));
  }
  torch::jit::EliminateDeadCode(state->graph);
  *out = std::make_unique<Trace>(*state->graph).release();
})

MF_EXPORT(mf_trace_text, (const Trace* trace, const char** text, size_t* constants), {
  *text = trace->text.c_str();
  *constants = trace->constants.size();
})

MF_EXPORT(mf_trace_constant, (const Trace* trace, size_t index, Handle out), { *out = trace->constants.at(index); })

MF_EXPORT(mf_trace_free, (Trace * trace), { delete trace; })
