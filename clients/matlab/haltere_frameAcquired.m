function haltere_frameAcquired(src, ~, varargin)
% HALTERE_FRAMEACQUIRED  ScanImage user function: sends every frame to haltere over ZeroMQ.
%
% In ScanImage: Settings > User Functions, event "frameAcquired", function "haltere_frameAcquired", enabled. That is all.
% Once per machine, put the JeroMQ jar on MATLAB's Java path (see README.md in this folder).
%
% Arguments of the user function (optional, in the "Arguments" column): endpoint, source name.
%   {'tcp://127.0.0.1:5710', 'rig1'}
%
% The frame is sent as it is in memory: int16, column-major. order "F" tells haltere, so that no time is spent on transposing here.
% The function never waits: without a subscriber, ZeroMQ drops the frame.

persistent socket context series number
endpoint = 'tcp://127.0.0.1:5710';
source = 'rig1';
if numel(varargin) >= 1, endpoint = varargin{1}; end
if numel(varargin) >= 2, source = varargin{2}; end

hSI = src.hSI;
if isempty(socket)
    import org.zeromq.*
    context = ZContext();
    socket = context.createSocket(ZMQ.PUB);      % old jars: context.createSocket(1) - PUB is 1 in every version
    socket.setSndHWM(16);                        % old jars: setHWM(16)
    socket.setLinger(0);
    socket.bind(endpoint);                       % the daemon connects and subscribes (its default)
end

% Each acquisition is a new series; its frames are numbered from 0.
acquisition = sprintf('acq-%05d', hSI.hScan2D.logFileCounter);
if ~strcmp(series, acquisition)
    series = acquisition;
    number = 0;
end

% The frame that has just been acquired, one cell per channel: lines x pixels, int16, negative values allowed.
stripe = hSI.hDisplay.lastFrame;
channels = find(~cellfun(@isempty, stripe));
if isempty(channels), return; end
if numel(channels) > 2, channels = channels(1:2); end     % haltere accepts one or two channels
pixels = stripe{channels(1)};
[height, width] = size(pixels);
shape = sprintf('[%d,%d]', height, width);
if numel(channels) == 2
    % Column-major with the channel as FIRST index: [2,h,w] in order "F" means that the channel varies fastest.
    pixels = permute(cat(3, pixels, stripe{channels(2)}), [3 1 2]);
    shape = sprintf('[2,%d,%d]', height, width);
end

% nanoTime is CLOCK_MONOTONIC on Linux; on Windows it is a separate counter, hence "device".
clock = 'device';
if isunix && ~ismac, clock = 'monotonic'; end
header = sprintf(['{"dtype":"int16","shape":%s,"order":"F","frame":%d,"timestamp_ns":%d,' ...
    '"clock":"%s","stamp":"end","source":"%s","series":"%s"}'], ...
    shape, number, java.lang.System.nanoTime(), clock, source, series);
number = number + 1;

SNDMORE = 2;
DONTWAIT = 1;
socket.send(uint8(header), SNDMORE + DONTWAIT);
socket.send(typecast(pixels(:), 'uint8'), DONTWAIT);      % JeroMQ expects byte[]; MATLAB converts uint8
end
