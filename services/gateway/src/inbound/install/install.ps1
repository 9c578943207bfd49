# Installs the DashFleet agent on this machine as a service and enrols it. Run as administrator:
#
#   $env:DASHFLEET_ENROLLMENT_TOKEN = 'dfe_...'; irm @URL@/install.ps1 | iex
#   .\install.ps1 [-Token TOKEN] [-ActionKey FINGERPRINT] [-Binary PATH]
param(
    [string]$Token = $env:DASHFLEET_ENROLLMENT_TOKEN,
    [string]$ActionKey = '@ACTION_KEY@',
    [string]$Binary = ''
)
$ErrorActionPreference = 'Stop'
$url = '@URL@'
$binaries = '@BINARIES@'

$me = [Security.Principal.WindowsPrincipal][Security.Principal.WindowsIdentity]::GetCurrent()
if (-not $me.IsInRole([Security.Principal.WindowsBuiltInRole]::Administrator)) { throw 'run it as administrator' }

$folder = Join-Path $env:ProgramFiles 'DashFleet'
$state = Join-Path $env:ProgramData 'DashFleet\agent'
$program = Join-Path $folder 'dashfleet-agent.exe'
New-Item -ItemType Directory -Force -Path $folder, $state | Out-Null
# Only the system and administrators may look into the state folder: it has the machine's key.
& icacls.exe $state /inheritance:r /grant:r '*S-1-5-18:(OI)(CI)F' '*S-1-5-32-544:(OI)(CI)F' | Out-Null
if (Get-Service DashFleetAgent -ErrorAction SilentlyContinue) { Stop-Service DashFleetAgent }
if ($Binary) {
    Copy-Item $Binary $program -Force
} elseif ($binaries) {
    Invoke-WebRequest -UseBasicParsing -Uri "$binaries/dashfleet-agent-windows-x86_64.exe" -OutFile $program
} else {
    throw 'this installation does not offer the agent''s program: set DASHFLEET_AGENT_BINARIES of the gateway, or give -Binary PATH'
}

[Environment]::SetEnvironmentVariable('DASHFLEET_AGENT_STATE', $state, 'Machine')
[Environment]::SetEnvironmentVariable('DASHFLEET_AGENT_LOG_FILE', (Join-Path $state 'agent.log'), 'Machine')
$env:DASHFLEET_AGENT_STATE = $state
Write-Output "orders are obeyed that this key has signed: $ActionKey"
$env:DASHFLEET_ENROLLMENT_TOKEN = $Token
& $program enroll --url $url --action-key $ActionKey
if ($LASTEXITCODE -ne 0) { throw 'the enrolment failed; what is above says why' }
Remove-Item Env:DASHFLEET_ENROLLMENT_TOKEN

if (-not (Get-Service DashFleetAgent -ErrorAction SilentlyContinue)) {
    New-Service -Name DashFleetAgent -DisplayName 'DashFleet agent' -StartupType Automatic -BinaryPathName "`"$program`" run" | Out-Null
    & sc.exe failure DashFleetAgent reset= 86400 actions= restart/5000 | Out-Null
}
Start-Service DashFleetAgent
Write-Output 'done; see dashfleet-agent status and dashfleet-agent diagnose'
