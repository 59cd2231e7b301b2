import { join } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'

/** A program that this machine shall run for its user from every login on, and start again when it ends. */
export type ServiceDefinition = {
  /** Letters, digits and dashes: `gpu-agent-pull-1a2b3c`. */
  readonly name: string
  readonly description: string
  /** Absolute paths of node and the script, then the arguments; no secret among them. */
  readonly argv: readonly string[]
  /** The whole environment of the service; no secret in it. */
  readonly environment: Readonly<Record<string, string>>
}

/** The file that makes it a service of this system, and the commands that begin and end it. */
export type ServiceFiles = {
  readonly path: string
  readonly text: string
  /** Where it is there already: ends what runs, so that `begin` begins what the file says now. It may fail. */
  readonly beforeAgain: readonly (readonly string[])[]
  readonly begin: readonly (readonly string[])[]
  readonly end: readonly (readonly string[])[]
}

/** @throws AgentError not_supported for a system without a service of the user that is known here */
export const serviceFiles = (
  definition: ServiceDefinition,
  system: {
    readonly platform: string
    readonly home: string
    readonly configHome: string
    readonly userId: number
  },
): ServiceFiles => {
  const { name } = definition
  switch (system.platform) {
    case 'linux': {
      const unit = `${name}.service`
      return {
        path: join(system.configHome, 'systemd', 'user', unit),
        text: systemdUnit(definition),
        beforeAgain: [],
        begin: [
          ['systemctl', '--user', 'daemon-reload'],
          ['systemctl', '--user', 'enable', unit],
          ['systemctl', '--user', 'restart', unit],
        ],
        end: [['systemctl', '--user', 'disable', '--now', unit]],
      }
    }
    case 'darwin': {
      const path = join(system.home, 'Library', 'LaunchAgents', `${name}.plist`)
      const domain = `gui/${system.userId}`
      return {
        path,
        text: launchdPlist(definition, join(system.home, 'Library', 'Logs', `${name}.log`)),
        beforeAgain: [['launchctl', 'bootout', `${domain}/${name}`]],
        begin: [['launchctl', 'bootstrap', domain, path]],
        end: [['launchctl', 'bootout', `${domain}/${name}`]],
      }
    }
    case 'win32': {
      const path = join(system.configHome, 'gpu-agent', `${name}.xml`)
      return {
        path,
        text: windowsTask(definition),
        beforeAgain: [['schtasks', '/End', '/TN', name]],
        begin: [
          ['schtasks', '/Create', '/F', '/TN', name, '/XML', path],
          ['schtasks', '/Run', '/TN', name],
        ],
        end: [['schtasks', '/Delete', '/F', '/TN', name]],
      }
    }
    default:
      throw new AgentError('not_supported', `there is no service for a system of kind ${system.platform}`, {
        hint: 'Keep agentctl pull-checkpoint --watch running by the means of the system.',
      })
  }
}

/** Of a program that ends again and again it is said so; RestartSec keeps it from doing so quickly. */
const systemdUnit = ({ description, argv, environment }: ServiceDefinition): string => `[Unit]
Description=${description.replaceAll('%', '%%')}
StartLimitIntervalSec=0

[Service]
Type=simple
ExecStart=${argv.map(quoteForSystemd).join(' ')}
${Object.entries(environment)
  .map(([name, value]) => `Environment=${quoteForSystemd(`${name}=${value}`)}`)
  .join('\n')}
Restart=always
RestartSec=10

[Install]
WantedBy=default.target
`

/** `%` begins a specifier and `$` a variable there; both are doubled to mean themselves. */
const quoteForSystemd = (text: string): string =>
  `"${text.replaceAll(/[\\"]/g, '\\$&').replaceAll('%', '%%').replaceAll('$', '$$$$')}"`

const launchdPlist = (
  { name, argv, environment }: ServiceDefinition,
  log: string,
): string => `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>Label</key><string>${xml(name)}</string>
  <key>ProgramArguments</key>
  <array>
${argv.map((word) => `    <string>${xml(word)}</string>`).join('\n')}
  </array>
  <key>EnvironmentVariables</key>
  <dict>
${Object.entries(environment)
  .map(([key, value]) => `    <key>${xml(key)}</key><string>${xml(value)}</string>`)
  .join('\n')}
  </dict>
  <key>RunAtLoad</key><true/>
  <key>KeepAlive</key><true/>
  <key>ThrottleInterval</key><integer>10</integer>
  <key>StandardErrorPath</key><string>${xml(log)}</string>
</dict>
</plist>
`

/** A task gets its user's own environment; another one cannot be given to it. */
const windowsTask = ({
  description,
  argv: [program = '', ...words],
}: ServiceDefinition): string => `<?xml version="1.0"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo><Description>${xml(description)}</Description></RegistrationInfo>
  <Triggers><LogonTrigger><Enabled>true</Enabled></LogonTrigger></Triggers>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <RestartOnFailure><Interval>PT1M</Interval><Count>999</Count></RestartOnFailure>
  </Settings>
  <Actions>
    <Exec>
      <Command>${xml(program)}</Command>
      <Arguments>${xml(words.map(quoteForWindows).join(' '))}</Arguments>
    </Exec>
  </Actions>
</Task>
`

/** As the runtime of C takes a command line apart: backslashes count before a quote only. */
const quoteForWindows = (word: string): string =>
  `"${word.replaceAll(/(\\*)"/g, '$1$1\\"').replaceAll(/(\\+)$/g, '$1$1')}"`

const xml = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
