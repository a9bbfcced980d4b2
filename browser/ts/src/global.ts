// For a script tag: window.EdgeNet, with the error class on it.
import { EdgeNet, EdgeNetError } from "./index";

(globalThis as { EdgeNet?: unknown }).EdgeNet = { ...EdgeNet, EdgeNetError };
