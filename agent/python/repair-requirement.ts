/**
 * Mends the three slips that old versions of pip let pass and new ones refuse: a missing comma (`<1.24>=1.18`), a
 * wildcard or a local label after an ordered comparison (`>=2.0.*`, `>=2.0+cu118`). Undefined when nothing was mended.
 */
export const repairRequirement = (text: string): string | undefined => {
  const [head = '', ...marker] = text.split(';')
  const repaired = [
    head
      .replaceAll(/([\w.*+!])\s*(?=(?:~=|===?|!=|<=?|>=?)\s*\d)/g, (whole, last: string, at: number) =>
        // The first operator follows the name; only an operator that follows a version lacks its comma.
        /[<>=~!]=?\s*[\w.*+!]*$/.test(head.slice(0, at)) ? `${last},` : whole,
      )
      .replaceAll(/((?:>=|<=|>|<)\s*[\w.]*?)\.\*/g, '$1')
      .replaceAll(/((?:>=|<=|~=|>|<)\s*[\w.!]+)\+[\w.]+/g, '$1'),
    ...marker,
  ].join(';')
  return repaired === text ? undefined : repaired
}
