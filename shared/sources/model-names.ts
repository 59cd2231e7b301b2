/** True for the names of files that hold weights: a web page or a JSON text is never one of them. */
export const isModelName = (name: string): boolean =>
  /\.(safetensors|sft|gguf|ckpt|pt|pth|bin|pkl|pickle|onnx|npz|engine)$/i.test(name)

/** True for files in Python's pickle format, which run code when they are loaded: refused without `allow_pickle`. */
export const isPickleName = (name: string): boolean => /\.(ckpt|pt|pth|bin|pkl|pickle)$/i.test(name)
