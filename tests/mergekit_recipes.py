"""Recipes in mergekit's dialect, of every method, for models called BASE, M1 and M2."""

from __future__ import annotations

RECIPES = {
    "linear": """
merge_method: linear
models:
  - {model: M1, parameters: {weight: 0.3}}
  - {model: M2, parameters: {weight: 0.9}}
""",
    "linear unnormalized": """
merge_method: linear
models:
  - {model: M1, parameters: {weight: 0.3}}
  - {model: M2, parameters: {weight: 0.9}}
parameters: {normalize: false}
""",
    "gradients": """
merge_method: linear
models:
  - {model: M1, parameters: {weight: [0.1, 0.9]}}
  - {model: M2, parameters: {weight: [1, 0.25, 0.5]}}
""",
    "filters": """
merge_method: linear
models:
  - model: M1
    parameters:
      weight:
        - {filter: self_attn, value: [0.0, 1.0, 0.5]}
        - {filter: mlp.down, value: 2.0}
        - {value: 0.5}
  - model: M2
    parameters: {weight: 1.0}
""",
    "filters that fall through to the top": """
merge_method: linear
models:
  - model: M1
    parameters: {weight: [{filter: mlp, value: 0.75}]}
  - model: M2
parameters:
  weight: [{filter: norm, value: 3.0}, {filter: "*", value: [0.2, 0.4]}]
""",
    "a lone filter": """
merge_method: linear
models:
  - model: M1
    parameters: {weight: {filter: mlp, value: 0.75}}
  - model: M2
parameters: {weight: 1}
""",
    "a gradient of truths": """
merge_method: linear
models:
  - {model: M1, parameters: {weight: 0.75}}
  - {model: M2, parameters: {weight: 0.75}}
parameters: {normalize: [true, false, true, false]}
""",
    "task arithmetic": """
merge_method: task_arithmetic
base_model: BASE
models:
  - {model: M1, parameters: {weight: 0.3}}
  - {model: M2, parameters: {weight: [{filter: mlp, value: [1, 0]}, {value: 0.5}]}}
parameters: {lambda: 0.8}
""",
    "task arithmetic normalized, base listed": """
merge_method: task_arithmetic
base_model: BASE
models:
  - model: BASE
  - {model: M1, parameters: {weight: 0.3}}
  - {model: M2, parameters: {weight: 0.9}}
parameters: {normalize: true, int8_mask: true}
""",
    "passthrough": """
merge_method: passthrough
models: [{model: M1}]
""",
    "passthrough scaled": """
merge_method: passthrough
models:
  - {model: M1, parameters: {scale: [{filter: o_proj, value: 0.0}, {value: 1.5}]}}
""",
    "slerp": """
slices:
  - sources:
      - {model: M1, layer_range: [0, 4]}
      - {model: M2, layer_range: [0, 4]}
merge_method: slerp
base_model: M1
parameters:
  t:
    - {filter: self_attn, value: [0, 0.5, 0.3, 0.7, 1]}
    - {filter: mlp, value: [1, 0.5, 0.7, 0.3, 0]}
    - value: 0.5
""",
    "slerp, slice parameters": """
slices:
  - sources:
      - {model: M1, layer_range: [0, 4]}
      - {model: M2, layer_range: [0, 4]}
    parameters: {t: [{filter: mlp, value: [0.1, 0.9]}]}
merge_method: slerp
base_model: M1
parameters: {t: 0.25}
""",
    "nuslerp": """
merge_method: nuslerp
models:
  - {model: M1, parameters: {weight: 0.3}}
  - {model: M2, parameters: {weight: [0.2, 0.9]}}
""",
    "nuslerp of task vectors, by row": """
merge_method: nuslerp
base_model: BASE
models:
  - {model: M1, parameters: {weight: 0.3}}
  - {model: M2, parameters: {weight: 0.9}}
parameters: {nuslerp_flatten: false}
""",
    "nuslerp of task vectors, by column": """
merge_method: nuslerp
base_model: BASE
models:
  - {model: M1, parameters: {weight: 0.3}}
  - {model: M2, parameters: {weight: 0.9}}
parameters: {nuslerp_flatten: false, nuslerp_row_wise: true}
""",
    "multislerp": """
merge_method: multislerp
models:
  - {model: M1, parameters: {weight: 0.3}}
  - {model: M2, parameters: {weight: 0.9}}
""",
    "multislerp of task vectors": """
merge_method: multislerp
base_model: BASE
models:
  - {model: M1, parameters: {weight: 0.3}}
  - {model: M2, parameters: {weight: 0.9}}
parameters: {normalize_weights: false}
""",
    "karcher": """
merge_method: karcher
models: [{model: M1}, {model: M2}]
parameters: {max_iter: 20, tol: 1e-6}
""",
    "karcher with a base beside": """
merge_method: karcher
base_model: BASE
models: [{model: M1}, {model: M2}]
""",
    "ties": """
merge_method: ties
base_model: BASE
models:
  - {model: M1, parameters: {weight: 0.5, density: 0.6}}
  - model: M2
    parameters: {weight: [0.2, 0.9], density: [{filter: mlp, value: 0.3}, {value: 0.7}]}
parameters: {lambda: 1.1}
""",
    "ties, added": """
merge_method: ties
base_model: BASE
models:
  - model: BASE
  - {model: M1, parameters: {weight: 0.5, density: 0.6}}
  - {model: M2, parameters: {weight: -0.3}}
parameters: {normalize: false, rescale: true, int8_mask: true}
""",
    "breadcrumbs": """
merge_method: breadcrumbs
base_model: BASE
models:
  - {model: M1, parameters: {weight: 0.5, density: 0.8, gamma: 0.05}}
  - {model: M2, parameters: {weight: 0.9, density: 0.5, gamma: 0.3}}
""",
    "breadcrumbs ties": """
merge_method: breadcrumbs_ties
base_model: BASE
models:
  - {model: M1, parameters: {weight: 0.5, density: 0.8}}
  - {model: M2, parameters: {weight: 0.9, density: 0.5, gamma: 0.6}}
parameters: {normalize: true}
""",
    "dare at full density": """
merge_method: dare_ties
base_model: BASE
models:
  - {model: M1, parameters: {weight: 0.5}}
  - {model: M2, parameters: {weight: 0.9}}
""",
    "della at full density": """
merge_method: della_linear
base_model: BASE
models:
  - {model: M1, parameters: {weight: 0.5}}
  - {model: M2, parameters: {weight: 0.9}}
parameters: {normalize: true, epsilon: 0.05}
""",
    "sce": """
merge_method: sce
base_model: BASE
models: [{model: M1}, {model: M2}]
parameters: {select_topk: 0.3}
""",
    "sce of everything": """
merge_method: sce
base_model: BASE
models: [{model: M1}, {model: M2}]
""",
    "model stock": """
merge_method: model_stock
base_model: BASE
models: [{model: M1}, {model: M2}]
""",
    "model stock, filter-wise": """
merge_method: model_stock
base_model: BASE
models: [{model: M1}, {model: M2}]
parameters: {filter_wise: true}
""",
    "nearswap": """
merge_method: nearswap
base_model: BASE
models: [{model: M1}]
parameters: {t: 0.01}
""",
    "arcee fusion": """
merge_method: arcee_fusion
base_model: BASE
models: [{model: M1}]
""",
    "ram": """
merge_method: ram
base_model: BASE
models: [{model: M1}, {model: M2}]
parameters: {epsilon: 0.01}
""",
    "ramplus": """
merge_method: ramplus_tl
base_model: BASE
models: [{model: M1}, {model: M2}]
parameters: {epsilon: 0.02, r: 0.4, alpha: 0.5}
""",
}
