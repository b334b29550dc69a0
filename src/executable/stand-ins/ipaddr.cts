// Stands in for ipaddr.js (see tools/bundle.ts), and loads it for the first IPv6 address: IPv4 ones are read without it, and
// its tables take a hundredth of a ban's time.
module.exports = {
  get IPv6() {
    return require('ipaddr.js').IPv6;
  },
};
