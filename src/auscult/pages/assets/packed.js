/**
 * Packed: arrays that a page carries as text: little-endian numbers, deflated, in base64.
 */

/**
 * @param {string} text
 * @returns {Promise<ArrayBuffer>}
 */
export async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

/**
 * @param {string} text
 * @returns {Promise<Int16Array>}
 */
export async function unpackCodes(text) {
  return new Int16Array(await unpack(text));
}

/**
 * @param {string} text
 * @returns {Promise<Float32Array>}
 */
export async function unpackFloats(text) {
  return new Float32Array(await unpack(text));
}
