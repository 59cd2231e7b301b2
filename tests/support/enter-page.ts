/** Enters a page that `agentctl open` printed the address of, once; afterwards its paths are asked as that browser. */
export const enterPage = async (printed: string): Promise<(path: string) => Promise<Response>> => {
  const [address = ''] = /http:\/\/127\.0\.0\.1:\d+\/\S*/.exec(printed) ?? []
  const entered = await fetch(address, { redirect: 'manual' })
  const cookie = entered.headers.get('set-cookie')?.split(';', 1)[0] ?? ''
  return (path) => fetch(new URL(path, address), { headers: { cookie } })
}
