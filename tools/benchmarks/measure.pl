# Runs the command lines of a plan one after another and measures each: perl measure.pl PLAN
# A line of the plan: `time` or `run` (not measured), standard input, then the words, divided by tabs.
# Prints for each `time` line: exit status, wall nanoseconds, user and system microseconds, peak kilobytes.
# Perl, because Node does not report a single child's resources; plain system calls, because perl-base has no Time::HiRes.
use strict;
use warnings;

use constant { SYS_WAIT4 => 61, SYS_CLOCK_GETTIME => 228, CLOCK_MONOTONIC => 1 };    # x86-64

sub now {
  my $time = "\0" x 16;
  syscall(SYS_CLOCK_GETTIME, CLOCK_MONOTONIC, $time) == 0 or die "clock_gettime: $!";
  my ($seconds, $nanoseconds) = unpack 'qq', $time;
  return $seconds * 1_000_000_000 + $nanoseconds;
}

$| = 1;
open my $plan, '<', $ARGV[0] or die "$ARGV[0]: $!";
while (my $line = <$plan>) {
  chomp $line;
  my ($kind, $input, @words) = split /\t/, $line, -1;
  my $start = now();
  my $pid = fork // die "fork: $!";
  if ($pid == 0) {
    $ENV{BENCH_START} = $start;
    open STDIN, '<', $input or die "$input: $!";
    open STDOUT, '>', '/dev/null' or die "/dev/null: $!";
    exec { $words[0] } @words or die "$words[0]: $!";
  }
  my ($status, $usage) = (pack('i', 0), "\0" x 144);
  syscall(SYS_WAIT4, $pid, $status, 0, $usage) == $pid or die "wait4: $!";
  my $wall = now() - $start;
  my ($user, $user_micro, $system, $system_micro, $peak) = unpack 'q5', $usage;
  my $code = unpack 'i', $status;
  die "$line\nended with status $code\n" if $code != 0;
  next if $kind ne 'time';
  print join(' ', $wall, $user * 1_000_000 + $user_micro, $system * 1_000_000 + $system_micro, $peak), "\n";
}
