function haltere_frameAcquired(src, ~, varargin)
% HALTERE_FRAMEACQUIRED  ScanImage user function: sends every frame to haltere over ZeroMQ.
%
% In ScanImage: Settings > User Functions, event "frameAcquired", function "haltere_frameAcquired", enabled. That is all.
% Once per machine, put the JeroMQ jar on MATLAB's Java path (see README.md in this folder). haltere_message.m must lie beside this file.
%
% Arguments of the user function (optional, in the "Arguments" column): endpoint, source name.
%   {'tcp://127.0.0.1:5710', 'rig1'}
%
% The frame is sent as it is in memory: int16, column-major. order "F" tells haltere, so that no time is spent on transposing here.
% The function never waits: without a subscriber, ZeroMQ drops the frame.

persistent socket context
endpoint = 'tcp://127.0.0.1:5710';
source = 'rig1';
if numel(varargin) >= 1, endpoint = varargin{1}; end
if numel(varargin) >= 2, source = varargin{2}; end

if isempty(socket)
    import org.zeromq.*
    context = ZContext();
    socket = context.createSocket(ZMQ.PUB);      % old jars: context.createSocket(1) - PUB is 1 in every version
    socket.setSndHWM(16);                        % old jars: setHWM(16)
    socket.setLinger(0);
    socket.bind(endpoint);                       % the daemon connects and subscribes (its default)
end

[header, payload] = haltere_message(src.hSI, source);
if isempty(header), return; end

SNDMORE = 2;
DONTWAIT = 1;
socket.send(uint8(header), SNDMORE + DONTWAIT);
socket.send(payload, DONTWAIT);                  % JeroMQ expects byte[]; MATLAB converts uint8
end
