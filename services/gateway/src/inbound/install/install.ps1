# Installs the DashFleet agent on this machine as a service and enrols it. Run as administrator:
#
#   $env:DASHFLEET_ENROLLMENT_TOKEN = 'dfe_...'; irm @URL@/install.ps1 | iex
#   .\install.ps1 [-Token TOKEN] [-ActionKey FINGERPRINT] [-Binary PATH]
param(
    [string]$Token = $env:DASHFLEET_ENROLLMENT_TOKEN,
    [string]$ActionKey = '',
    [string]$Binary = ''
)
$ErrorActionPreference = 'Stop'
$url = '@URL@'
$binaries = '@BINARIES@'
# The fingerprint of the key whose orders this machine will obey. Compare it with what you were told.
$serverKey = '@ACTION_KEY@'

$me = [Security.Principal.WindowsIdentity]::GetCurrent()
$role = [Security.Principal.WindowsBuiltInRole]::Administrator
if (-not ([Security.Principal.WindowsPrincipal]$me).IsInRole($role)) { throw 'run it as administrator' }
# The system, administrators, and whoever runs this.
$owners = 'S-1-5-18', 'S-1-5-32-544', $me.User.Value

# Runs a program; one that fails ends this script.
function Invoke-Program {
    $run, $rest = $args
    & $run @rest
    if ($LASTEXITCODE -ne 0) { throw "$run failed with code $LASTEXITCODE" }
}

# Whether somebody else has made this, or it leads elsewhere.
function Test-Foreign([string]$path) {
    $link = (Get-Item -LiteralPath $path -Force).Attributes -band [IO.FileAttributes]::ReparsePoint
    $owner = (Get-Acl -LiteralPath $path).GetOwner([Security.Principal.SecurityIdentifier]).Value
    $link -or ($owner -notin $owners)
}

# Makes a folder that only the system and administrators may look into. Anybody may make folders in ProgramData: one that
# was made beforehand, with a key or an enrolment in it, would give this machine to whoever made it.
function Protect-Folder([string]$path) {
    if ((Test-Path -LiteralPath $path) -and (Test-Foreign $path)) {
        # It removes an empty folder, or a link, and never what is in it or behind it.
        try { [IO.Directory]::Delete($path, $false) }
        catch { throw "$path was made by somebody else and cannot be removed: look at it, remove it, and run this again" }
    }
    if (-not (Test-Path -LiteralPath $path)) { New-Item -ItemType Directory -Path $path | Out-Null }
    Invoke-Program icacls.exe $path /setowner '*S-1-5-32-544' | Out-Null
    # What was granted goes, also what the folder above grants; two entries are left.
    Invoke-Program icacls.exe $path /reset | Out-Null
    Invoke-Program icacls.exe $path /inheritance:r /grant:r '*S-1-5-18:(OI)(CI)F' '*S-1-5-32-544:(OI)(CI)F' | Out-Null
    # From here on nobody else puts anything here. What is here already must be ours.
    foreach ($item in Get-ChildItem -LiteralPath $path -Recurse -Force) {
        if (Test-Foreign $item.FullName) { throw "$($item.FullName) is somebody else's: look at it, remove it, and run this again" }
    }
}

$folder = Join-Path $env:ProgramFiles 'DashFleet'
# The policy (policy.json) and the configuration (agent.json) are here, the state is below.
$root = Join-Path $env:ProgramData 'DashFleet'
$state = Join-Path $root 'agent'
$program = Join-Path $folder 'dashfleet-agent.exe'
New-Item -ItemType Directory -Force -Path $folder | Out-Null
Protect-Folder $root
Protect-Folder $state
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
# Keys rotate. A machine that is enrolled knows whom it obeys: only a key that somebody has named is compared with that.
$enrol = @('enroll', '--url', $url)
if ($ActionKey) {
    $enrol += '--action-key', $ActionKey
} elseif (-not (Test-Path -LiteralPath (Join-Path $state 'enrolment.json'))) {
    $enrol += '--action-key', $serverKey
    Write-Output "orders are obeyed that this key has signed: $serverKey"
}
$env:DASHFLEET_ENROLLMENT_TOKEN = $Token
Invoke-Program $program @enrol
Remove-Item Env:DASHFLEET_ENROLLMENT_TOKEN

if (-not (Get-Service DashFleetAgent -ErrorAction SilentlyContinue)) {
    New-Service -Name DashFleetAgent -DisplayName 'DashFleet agent' -StartupType Automatic -BinaryPathName "`"$program`" run" | Out-Null
    Invoke-Program sc.exe failure DashFleetAgent reset= 86400 actions= restart/5000 | Out-Null
}
Start-Service DashFleetAgent
Write-Output 'done; see dashfleet-agent status and dashfleet-agent diagnose'
